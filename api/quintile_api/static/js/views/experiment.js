// One experiment: status with reasons, metric curves, the last log lines.

import { get, getOrNull, lines, list, post } from "../api.js";
import { lineChart, shareBar } from "../chart.js";
import { h } from "../dom.js";
import { ago, count, dash, duration, moment, metric, percent, seconds } from "../format.js";
import { action, conditionTable, phaseChip, phaseOf, section, table, tiles, trouble } from "../parts.js";

const LOG_LINES = 200;
const POINTS = 300;
const OVER = ["Succeeded", "Failed", "Stopped"];
const STEP = /^step\/(.+)_ms$/;

export function experimentView(project, name) {
  const base = `/projects/${encodeURIComponent(project)}`;
  const mine = `${base}/experiments/${encodeURIComponent(name)}`;
  return {
    load: async () => {
      const document = await get(mine);
      const [trials, events] = await Promise.all([
        list(`${base}/trials?experiment=${encodeURIComponent(name)}`),
        get(`${base}/events?limit=12&kind=Experiment&name=${encodeURIComponent(name)}`).then((found) => found.items),
      ]);
      const trial = trials[0];
      const run = trial ? await readRun(`${base}/trials/${trial.metadata.name}`) : { series: [], log: [], artifacts: [] };
      return { document, trial, events, run, base };
    },
    draw: (found, again) => draw(found, again, { mine, project }),
  };
}

async function readRun(path) {
  const [metrics, log, artifacts] = await Promise.all([
    getOrNull(`${path}/metrics?max_points=${POINTS}`), getOrNull(`${path}/logs?tail=${LOG_LINES}`), getOrNull(`${path}/artifacts`),
  ]);
  return { series: metrics?.series ?? [], log: log === null ? [] : lines(log), artifacts: artifacts?.items ?? [] };
}

function draw({ document, trial, events, run, base }, again, { mine }) {
  const { spec, status = {} } = document;
  const progress = status.progress ?? {};
  const over = OVER.includes(phaseOf(document));
  const goodput = newest(run.series.find((series) => series.name === "goodput"));
  const act = (path, body) => async () => { await post(`${mine}/${path}`, body); await again(); };
  return h("div", { class: "page" },
    h("div", null,
      h("div", { class: "headline" }, h("h1", null, document.metadata.name), phaseChip(document), h("span", { class: "grow" }),
        trial ? h("a", { class: "button", href: `/api/v1${mine}/tensorboard/`, target: "_blank", rel: "noopener" }, "TensorBoard") : null,
        over ? null : status.phase === "Suspended" || spec.suspend
          ? action("Resume", act("resume"), "main")
          : [action("Suspend", act("stop", { suspend: true })), action("Stop", act("stop", {}))]),
      spec.description ? h("p", { class: "lead" }, spec.description) : null,
      status.message && phaseOf(document) !== "Succeeded" ? h("p", { class: "lead" }, status.message) : null),
    tiles([
      ["Mode", status.mode ?? spec.run?.mode ?? "auto", `${count(spec.run?.workers?.replicas ?? 1)} workers`, "words"],
      ["Dataset", spec.dataset ? `${spec.dataset.name} v${spec.dataset.version}` : dash, spec.dataset?.split ? `split ${spec.dataset.split}` : "", "words"],
      ["Progress", progress.totalSteps ? `${progress.percent} %` : dash, progress.totalSteps ? `step ${count(progress.step)} of ${count(progress.totalSteps)}` : "no steps reported"],
      ["Time", duration(spanOf(status)), status.startTime ? `started ${ago(status.startTime)}` : ""],
      ["Restarts", count(trial?.status?.restarts ?? 0), `attempt ${trial?.status?.attempt ?? 0}, generation ${trial?.status?.generation ?? 0}`],
      ...(goodput === null ? [] : [["Goodput", percent(goodput), "of the time in steps that count"]]),
      ...bestOf(progress),
    ]),
    trial?.status?.lastFailure?.reason ? h("p", { class: "note" }, failureText(trial.status.lastFailure)) : null,
    stepTimes(run.series),
    run.series.length ? section("Metrics", undefined, h("div", { class: "charts" },
      run.series.filter((series) => !STEP.test(series.name)).map(chartOf))) : null,
    h("div", { class: "two" },
      h("div", { class: "stack" },
        section("Log", run.log.length ? `last ${run.log.length} lines` : undefined, logCard(run.log)),
        events.length ? section("Events", undefined, eventTable(events)) : null),
      h("div", { class: "stack" },
        section("Status", undefined, conditionTable(trial?.status?.conditions ?? status.conditions)),
        spec.hparams?.length ? section("Hyperparameters", undefined, h("dl", { class: "card pad facts" },
          spec.hparams.map((entry) => [h("dt", null, entry.name), h("dd", null, entry.value)]))) : null,
        run.artifacts.length ? section("Files", undefined, table("Files", [
          ["Name", (row) => h("a", { href: `/api/v1${base}/trials/${trial.metadata.name}/artifacts/${row.name}`, download: row.name }, row.name)],
          ["Bytes", (row) => count(row.size), "number"],
        ], run.artifacts, { key: (row) => row.name })) : null)));
}

function spanOf(status) {
  const begun = seconds(status.startTime);
  if (begun === null) return null;
  return (seconds(status.completionTime) ?? Date.now() / 1000) - begun;
}

function bestOf(progress) {
  const found = (progress.metrics ?? []).find((entry) => /accuracy|agreement/.test(entry.name));
  return found ? [[found.name, percent(found.value), "newest"]] : [];
}

function newest(series) {
  return series?.values.at(-1) ?? null;
}

function stepTimes(series) {
  const parts = series.filter(({ name }) => STEP.test(name))
    .map((one) => [one.name.match(STEP)[1], newest(one) ?? 0]).sort((a, b) => b[1] - a[1]);
  const total = parts.reduce((sum, [, ms]) => sum + ms, 0);
  if (!total) return null;
  const label = `Time of a step: ${parts.map(([name, ms]) => `${name} ${percent(ms / total)}`).join(", ")}`;
  return section("Time of a step", `${metric(total)} ms`, h("div", { class: "card pad" },
    shareBar(parts, total, label),
    h("p", { class: "legend" }, parts.map(([name, ms]) => h("span", { class: name }, `${name} ${metric(ms)} ms`)))));
}

function chartOf(series) {
  const points = series.steps.map((step, place) => [step, series.values[place] ?? NaN]);
  return lineChart(series.name, points, { show: metric, showX: count });
}

function failureText(failure) {
  const who = failure.rank >= 0 ? `rank ${failure.rank}` : failure.role || "the run";
  const code = failure.exitCode === undefined || failure.exitCode === null ? "" : ` with code ${failure.exitCode}`;
  return `Newest failure: ${who} ended${code} (${failure.reason}). ${failure.message ?? ""}`;
}

function logCard(log) {
  if (!log.length) return h("p", { class: "card pad quiet" }, "No output yet.");
  return h("pre", { class: "card log", tabindex: "0", "aria-label": "Log" }, log.map((line) =>
    h("span", { class: line.stream, "data-key": line.id }, h("span", { class: "rank" }, `${line.rank}  `), `${line.line}\n`)));
}

function eventTable(events) {
  return table("Events", [
    ["When", (row) => h("span", { title: moment(row.last_time) }, ago(row.last_time)), "nowrap"],
    ["What", (row) => [row.reason, row.count > 1 ? ` ×${row.count}` : "", h("span", { class: "under" }, row.message)]],
  ], events, { key: (row) => `${row.reason}${row.first_time}` });
}

