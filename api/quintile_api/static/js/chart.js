// Small line charts as inline SVG.

import { h, svg } from "./dom.js";
import { metric } from "./format.js";

const WIDTH = 300;
const HEIGHT = 150;
const LEFT = 50;
const RIGHT = 10;
const TOP = 8;
const BOTTOM = 20;

function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(at);
  return found;
}

function range(values, pad) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  if (low === high) return [low - (Math.abs(low) * 0.05 || 0.5), high + (Math.abs(high) * 0.05 || 0.5)];
  return [low - (high - low) * pad, high + (high - low) * pad];
}

/** A chart of points [x, y] with a title; ``show`` formats values, ``goal`` is a dashed line. */
export function lineChart(title, points, { show = metric, showX = metric, goal, unit = "step" } = {}) {
  const good = points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  const last = good.length ? good[good.length - 1] : null;
  const caption = h("figcaption", null, h("span", null, title), h("b", null, last ? show(last[1]) : "–"));
  if (!good.length) return h("figure", { class: "card chart", "data-key": title }, caption, h("p", { class: "quiet" }, "No points yet."));
  const heights = good.map(([, y]) => y);
  if (goal !== undefined) heights.push(goal);
  const [x0, x1] = range(good.map(([x]) => x), 0);
  const [y0, y1] = range(heights, 0.06);
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => TOP + (1 - (y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const path = good.map(([x, y], place) => `${place ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
  const rules = ticks(y0, y1).map((value) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value) }),
    svg("text", { x: LEFT - 6, y: py(value) + 3.5, "text-anchor": "end" }, show(value)),
  ]);
  const dots = good.length <= 24 ? good.map(([x, y]) => svg("circle", { class: "dot", cx: px(x), cy: py(y), r: 2.2 })) : [];
  const label = `${title}: ${good.length} points, newest ${show(last[1])} at ${unit} ${showX(last[0])}`;
  return h(
    "figure",
    { class: "card chart", "data-key": title },
    caption,
    svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
      rules,
      goal === undefined ? null : svg("line", { class: "goal", x1: LEFT, x2: WIDTH - RIGHT, y1: py(goal), y2: py(goal) }),
      svg("path", { class: "series", d: path }),
      dots,
      svg("text", { x: LEFT, y: HEIGHT - 4 }, showX(good[0][0])),
      svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, `${unit} ${showX(last[0])}`),
    ),
  );
}

/** A bar of shares: [[class, count], ...] out of ``total``. */
export function shareBar(parts, total, label) {
  let at = 0;
  const pieces = parts.map(([name, value]) => {
    const width = total ? (value / total) * 600 : 0;
    const piece = svg("rect", { class: name, x: at, y: 0, width, height: 14 });
    at += width;
    return piece;
  });
  return svg(
    "svg",
    { viewBox: "0 0 600 14", preserveAspectRatio: "none", role: "img", "aria-label": label, width: "100%", height: 14 },
    svg("rect", { class: "rest", x: 0, y: 0, width: 600, height: 14 }),
    pieces,
  );
}
