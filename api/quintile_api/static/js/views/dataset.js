// One dataset: its versions and a look at the images.

import { get, list } from "../api.js";
import { h } from "../dom.js";
import { ago, count, percent } from "../format.js";
import { section, table, tiles } from "../parts.js";

const SHOWN = 60;

export function datasetView(project, name, number) {
  const base = `/projects/${encodeURIComponent(project)}/datasets/${encodeURIComponent(name)}`;
  return {
    load: async () => {
      const [about, versions] = await Promise.all([get(base), list(`${base}/versions`)]);
      const chosen = versions.find((one) => String(one.version) === number) ?? versions.at(-1);
      if (!chosen) return { about, versions, items: [], splits: [] };
      const at = `${base}/versions/${chosen.version}`;
      const [page, splits] = await Promise.all([get(`${at}/items?limit=${SHOWN}`), list(`${at}/splits`)]);
      return { about, versions, chosen, items: page.items, splits, at };
    },
    draw: (found) => draw(found, { project, name }),
  };
}

function draw({ about, versions, chosen, items, splits, at }, { project, name }) {
  return h("div", { class: "page" },
    h("div", null, h("h1", null, name), about.description ? h("p", { class: "lead" }, about.description) : null),
    chosen ? tiles([
      ["Version", `v${chosen.version}`, `from ${origin(chosen)}`],
      ["Images", count(chosen.items), `${(chosen.bytes / 2 ** 20).toFixed(1)} MiB`],
      ["Labelled", percent(chosen.items ? chosen.labelled / chosen.items : 0), sources(chosen.label_sources)],
      ["Classes", count(chosen.classes.length), chosen.classes.slice(0, 6).map((one) => one.name).join(", ")],
    ]) : h("p", { class: "card pad quiet" }, "No version yet. An import makes the first."),
    section("Versions", versions.length || undefined, table("Versions", [
      ["Version", (row) => h("a", { class: "name", href: `#/p/${project}/datasets/${name}/${row.version}` }, `v${row.version}`)],
      ["From", origin],
      ["Images", (row) => count(row.items), "number"],
      ["Labelled", (row) => count(row.labelled), "number"],
      ["Labels by", (row) => sources(row.label_sources)],
      ["Created", (row) => ago(row.created), "nowrap"],
    ], [...versions].reverse(), { href: (row) => `#/p/${project}/datasets/${name}/${row.version}`, key: (row) => String(row.version) })),
    splits.length ? section("Splits", undefined, table("Splits", [
      ["Name", (row) => row.name],
      ["Parts", (row) => Object.entries(row.parts).map(([part, size]) => `${part} ${count(size)}`).join(" · ")],
      ["True labels kept for", (row) => row.truth_parts.join(", ") || "none"],
      ["Seed", (row) => row.seed, "number"],
    ], splits, { key: (row) => row.name })) : null,
    items.length ? section("Images", `${Math.min(SHOWN, chosen.items)} of ${count(chosen.items)}`,
      h("div", { class: "card gallery" }, items.map((item) => h("figure", { "data-key": item.item_id, title: item.name },
        h("img", { src: `/api/v1${at}/items/${item.item_id}/thumbnail?size=128`, alt: item.name, loading: "lazy", width: 96, height: 96 }),
        h("figcaption", null, h("span", null, item.label ?? "–"), h("span", { class: "quiet" }, item.source ?? "")))))) : null);
}

function origin(version) {
  const said = (version.origin ?? "").replace(/^(import) [0-9a-f]+$/, "$1");
  return said || (version.parent ? `v${version.parent}` : "import");
}

function sources(found) {
  return Object.entries(found ?? {}).map(([source, size]) => `${source} ${count(size)}`).join(" · ");
}
