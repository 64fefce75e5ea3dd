// One labeling job: how far it is, what its certificate says, what each round did.

import { get, getOrNull, post } from "../api.js";
import { lineChart, shareBar } from "../chart.js";
import { h } from "../dom.js";
import { count, dash, duration, percent, words } from "../format.js";
import { action, conditionTable, phaseChip, phaseOf, section, table, tiles } from "../parts.js";

const OVER = ["Succeeded", "Failed"];

export function jobView(project, name) {
  const mine = `/projects/${encodeURIComponent(project)}/labeling-jobs/${encodeURIComponent(name)}`;
  return {
    load: async () => {
      const document = await get(mine);
      const [stats, rounds, certificate] = await Promise.all([
        getOrNull(`${mine}/stats`), getRounds(`${mine}/rounds`), getOrNull(`${mine}/certificate`),
      ]);
      return { document, stats, rounds, certificate };
    },
    draw: (found, again) => draw(found, again, { mine, project, name }),
  };
}

async function getRounds(path) {
  const found = await getOrNull(path);
  return Array.isArray(found) ? found : found?.items ?? [];
}

function draw({ document, stats, rounds, certificate }, again, { mine, project, name }) {
  const { spec, status = {} } = document;
  const act = (verb) => async () => { await post(`${mine}/${verb}`); await again(); };
  const over = OVER.includes(phaseOf(document));
  return h("div", { class: "page" },
    h("div", null,
      h("div", { class: "headline" }, h("h1", null, name), phaseChip(document), h("span", { class: "grow" }),
        over ? null : spec.suspend ? action("Resume", act("resume")) : action("Suspend", act("suspend")),
        over || spec.suspend ? null : h("a", { class: "button main", href: `#/p/${project}/labeling/${name}/label` }, "Label images")),
      h("p", { class: "lead" }, sentence(document))),
    tiles([
      ["Coverage", percent(status.coverage), "rows the certificate speaks for"],
      ["Certified error", percent(certificate?.certified_error ?? status.certifiedError), `target ${percent(spec.target?.error ?? "0.02")} at ${percent(spec.target?.confidence ?? "0.95")} confidence`],
      ["Labelled by people", percent(stats?.human_fraction ?? status.humanFraction), stats ? `${count(stats.human)} of ${count(stats.items)} images` : ""],
      ["Labels left", count(status.labelsLeft), status.labelsLeft === undefined ? "known after a round" : "forecast"],
      ["Round", count(status.round ?? 0), `of at most ${spec.budget?.maxRounds ?? 8}`],
      ["Time per label", stats?.seconds_p50 ? duration(stats.seconds_p50) : dash, "median"],
    ]),
    stats ? h("section", { class: "card pad", "aria-label": "Sources of labels" },
      shareBar([["human", stats.human], ["auto", stats.auto]], stats.items, `${stats.human} by people, ${stats.auto} by machine, ${stats.items} in all`),
      h("p", { class: "legend" },
        h("span", { class: "human" }, `by people ${count(stats.human)}`),
        h("span", { class: "auto" }, `by machine, certified ${count(stats.auto)}`),
        h("span", null, `open ${count(Math.max(0, stats.items - stats.human - stats.auto))}`))) : null,
    certificate ? certificateCard(certificate) : null,
    h("div", { class: "two" },
      h("div", { class: "stack" },
        section("Rounds", undefined, roundTable(project, rounds)),
        section("Status", undefined, conditionTable(status.conditions))),
      h("div", { class: "stack" },
        coverageChart(rounds, stats),
        stats && Object.keys(stats.by_class).length ? section("Labels by class", undefined, tally("Class", stats.by_class)) : null,
        stats && Object.keys(stats.by_author).length ? section("Answers by person", undefined, tally("Person", stats.by_author)) : null)));
}

function sentence({ spec, status = {} }) {
  const base = `${spec.task[0].toUpperCase()}${spec.task.slice(1)} of ${spec.dataset.name} v${spec.dataset.version} into ${spec.labels.length} labels.`;
  if (status.outputVersion) return `${base} The result is ${spec.dataset.name} v${status.outputVersion}.`;
  return status.message ? `${base} Now: ${status.message}.` : base;
}

function certificateCard(certificate) {
  const good = certificate.outcome.startsWith("Certified");
  return section("Certificate", undefined, h("div", { class: "card pad stack" },
    h("div", { class: "headline" },
      h("span", { class: `chip ${good ? "good" : "warn"}` }, words(certificate.outcome)),
      h("span", { class: "quiet" }, `${certificate.mode}: ${certificate.words}`),
      certificate.stale ? h("span", { class: "chip warn" }, "stale") : null),
    h("ol", { class: "lines" }, certificate.lines.map((line) => h("li", null, line))),
    h("dl", { class: "facts" }, [
      ["Random images", `${count(certificate.random_items)}, of which the machine had ${count(certificate.random_wrong)} wrong`],
      ["Accepted", `${count(certificate.accepted)} of ${count(certificate.items)} images by machine, ${count(certificate.uncovered)} left to people`],
      ["Check it", h("code", null, `sha256 ${certificate.manifest_sha256.slice(0, 16)}…`)],
    ].map(([term, text]) => [h("dt", null, term), h("dd", null, text)]))));
}

function roundTable(project, rounds) {
  if (!rounds.length) return h("p", { class: "card pad quiet" }, "The first round starts as soon as the images are read. Random images can be labelled meanwhile.");
  return table("Rounds", [
    ["Round", (row) => row.number],
    ["Step", (row) => row.step],
    ["State", (row) => row.state],
    ["Labels in", (row) => count(row.human), "number"],
    ["Coverage", (row) => [percent(row.coverage), row.forecast_low === null || row.forecast_low === undefined ? null
      : h("span", { class: "under" }, `forecast ${percent(row.forecast_low)} to ${percent(row.forecast_high)}`)], "number"],
    ["Time", (row) => duration(row.seconds), "number"],
    ["", (row) => (row.experiment ? h("a", { href: `#/p/${project}/experiments/${row.experiment}` }, "Run") : null), "number"],
  ], rounds, { key: (row) => String(row.number) });
}

function coverageChart(rounds, stats) {
  const points = rounds.filter((row) => row.coverage !== null && row.coverage !== undefined && stats?.items)
    .map((row) => [row.human / stats.items, row.coverage]);
  if (points.length < 2) return null;
  return lineChart("Coverage by labels of people", points, { show: percent, showX: percent, unit: "at" });
}

function tally(head, counts) {
  const rows = Object.entries(counts).sort((a, b) => b[1] - a[1]);
  return table(head, [[head, (row) => row[0]], ["Images", (row) => count(row[1]), "number"]], rows, { key: (row) => row[0] });
}

