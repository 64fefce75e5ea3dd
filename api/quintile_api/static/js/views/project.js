// First view: labeling jobs, experiments and datasets of a project.

import { list, listOrNothing } from "../api.js";
import { h } from "../dom.js";
import { ago, count, dash, metric, percent } from "../format.js";
import { ask, command, empty, phaseChip, section, table } from "../parts.js";

const ROUND_LABEL = "quintile.dev/labeling-job";
const AUTHOR = "quintile.dev/created-by";
const LABELS_SHOWN = 6;
const METRICS_SHOWN = 3;

export function projectView(project) {
  const base = `/projects/${encodeURIComponent(project)}`;
  return {
    load: async () => {
      const [jobs, experiments, datasets] = await Promise.all([
        listOrNothing(`${base}/labeling-jobs`), list(`${base}/experiments`), listOrNothing(`${base}/datasets`),
      ]);
      return { jobs: newest(jobs), experiments: newest(experiments.filter((one) => !one.metadata.labels?.[ROUND_LABEL])), datasets };
    },
    draw: (found) => h("div", { class: "page" },
      h("h1", { class: "visually-hidden" }, `Project ${project}`),
      section("Labeling", found.jobs.length || undefined, jobs(project, found), create("labeling job", jobCommand(found.datasets))),
      section("Experiments", found.experiments.length || undefined, experiments(project, found), create("experiment", runCommand(found.datasets))),
      section("Datasets", found.datasets.length || undefined, datasets(project, found), create("dataset", "quintile dataset import parts ./images"))),
  };
}

function newest(documents) {
  return [...documents].sort((a, b) => (b.metadata.creationTimestamp ?? "").localeCompare(a.metadata.creationTimestamp ?? ""));
}

function jobCommand(datasets) {
  const name = datasets[0]?.name ?? "parts";
  return `quintile label create ${name}-labels --dataset ${name}:1 --labels ok,scratch,dent --error 0.02`;
}

function runCommand(datasets) {
  const found = datasets[0];
  return `quintile run --model resnet8 --dataset ${found?.name ?? "parts"}:${found?.newest_version || 1} --workers 2 --name my-first-run`;
}

function create(what, text) {
  return h("button", { type: "button", onclick: () => ask(`Create a ${what}`.replace("a e", "an e"),
    h("p", null, "From a terminal on this machine:"), command(text),
    h("p", { class: "quiet" }, "Add --help to see every option; the same works from Python with quintile.sdk.")) }, "+ Create");
}

function labels(names) {
  const shown = names.slice(0, LABELS_SHOWN).map((name) => h("span", { class: "tag" }, name));
  if (names.length > LABELS_SHOWN) shown.push(h("span", { class: "tag", title: names.join(", ") }, `+${names.length - LABELS_SHOWN}`));
  return h("div", { class: "tags" }, shown);
}

function jobs(project, { jobs: rows, datasets: known }) {
  if (!rows.length) {
    return known.length
      ? empty("No labeling job yet.", "Say which images, which labels, and how wrong the result may be:", jobCommand(known))
      : empty("No labeling job yet.", "Import images first; then people label a fifth of them and Quintile certifies the rest.");
  }
  const href = (job) => `#/p/${project}/labeling/${job.metadata.name}`;
  return table("Labeling jobs", [
    ["Running status", phaseChip],
    ["Model type", (job) => `${job.spec.task[0].toUpperCase()}${job.spec.task.slice(1)}`],
    ["Title", (job) => [h("a", { class: "name", href: href(job) }, job.metadata.name),
      h("span", { class: "under" }, `${job.spec.dataset.name} v${job.spec.dataset.version} · ${job.metadata.annotations?.[AUTHOR] ?? ""}`)]],
    ["Label list", (job) => labels(job.spec.labels)],
    ["Coverage", (job) => percent(job.status?.coverage), "number"],
    ["Certified error", (job) => [percent(job.status?.certifiedError), h("span", { class: "under" }, `target ${percent(job.spec.target?.error ?? "0.02")}`)], "number"],
    ["Labels left", (job) => count(job.status?.labelsLeft), "number"],
    ["Round", (job) => count(job.status?.round ?? 0), "number"],
    ["", (job) => ["Labeling", "Covering"].includes(job.status?.phase)
      ? h("a", { class: "button", href: `${href(job)}/label` }, "Label") : null, "number"],
  ], rows, { href, key: (job) => job.metadata.uid });
}

function experiments(project, { experiments: rows, datasets: known }) {
  if (!rows.length) return empty("No experiment yet.", "Train a model on a dataset version:", runCommand(known));
  const href = (one) => `#/p/${project}/experiments/${one.metadata.name}`;
  return table("Experiments", [
    ["Status", phaseChip],
    ["Name", (one) => [h("a", { class: "name", href: href(one) }, one.metadata.name),
      h("span", { class: "under" }, one.spec.dataset ? `${one.spec.dataset.name} v${one.spec.dataset.version}` : one.spec.description ?? "")]],
    ["Mode", (one) => one.status?.mode ?? one.spec.run?.mode ?? "auto"],
    ["Workers", (one) => count(one.spec.run?.workers?.replicas ?? 1), "number"],
    ["Progress", (one) => progressOf(one.status?.progress), "nowrap"],
    ["Metrics", (one) => metricsOf(one.status?.progress)],
    ["Started", (one) => ago(one.status?.startTime), "nowrap"],
  ], rows, { href, key: (one) => one.metadata.uid });
}

function progressOf(progress) {
  if (!progress?.totalSteps) return dash;
  return [h("progress", { max: 100, value: progress.percent, "aria-label": `${progress.percent} %` }), ` ${progress.percent} %`];
}

function metricsOf(progress) {
  const found = progress?.metrics ?? [];
  if (!found.length) return dash;
  const order = (entry) => (/accuracy|agreement/.test(entry.name) ? 0 : 1);
  const shown = [...found].sort((a, b) => order(a) - order(b)).slice(0, METRICS_SHOWN);
  return h("div", { class: "tags" }, shown.map((entry) => h("span", { class: "tag" }, `${entry.name} ${metric(entry.value)}`)));
}

function datasets(project, { datasets: rows }) {
  if (!rows.length) return empty("No dataset yet.", "A folder, a zip, a CSV of file names or a NumPy file becomes version 1:", "quintile dataset import parts ./images");
  const href = (row) => `#/p/${project}/datasets/${row.name}`;
  return table("Datasets", [
    ["Name", (row) => [h("a", { class: "name", href: href(row) }, row.name), row.description ? h("span", { class: "under" }, row.description) : null]],
    ["Newest version", (row) => (row.newest_version ? `v${row.newest_version}` : dash)],
    ["Images", (row) => count(row.items), "number"],
    ["Created", (row) => ago(row.created), "nowrap"],
  ], rows, { href, key: (row) => row.uid });
}
