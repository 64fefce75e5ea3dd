// The shell: which view the address names, who is signed in, and refreshing every two seconds.

import { Problem, get, list, post } from "./api.js";
import { h, morph } from "./dom.js";
import { trouble } from "./parts.js";
import { datasetView } from "./views/dataset.js";
import { experimentView } from "./views/experiment.js";
import { jobView } from "./views/job.js";
import { labelView } from "./views/label.js";
import { projectView } from "./views/project.js";
import { signedOutView } from "./views/signed_out.js";

const REFRESH_MS = 2000;
const main = document.getElementById("main");
const trail = document.getElementById("trail");
const aside = document.getElementById("aside");

const ROUTES = [
  [/^#\/p\/([^/]+)\/experiments\/([^/]+)$/, experimentView, (p, name) => [["Experiments", `#/p/${p}`], [name]]],
  [/^#\/p\/([^/]+)\/labeling\/([^/]+)\/label$/, labelView, (p, name) => [[name, `#/p/${p}/labeling/${name}`], ["Label images"]]],
  [/^#\/p\/([^/]+)\/labeling\/([^/]+)$/, jobView, (p, name) => [["Labeling", `#/p/${p}`], [name]]],
  [/^#\/p\/([^/]+)\/datasets\/([^/]+)(?:\/(\d+))?$/, datasetView, (p, name) => [["Datasets", `#/p/${p}`], [name]]],
  [/^#\/p\/([^/]+)$/, projectView, () => []],
];

const state = { me: null, projects: [], leave: null, timer: 0, turn: 0 };

function match() {
  const address = location.hash || "#/";
  for (const [pattern, view, places] of ROUTES) {
    const found = pattern.exec(address);
    if (found) {
      const names = found.slice(1).map((part) => (part === undefined ? undefined : decodeURIComponent(part)));
      return { view, names, places: places(...names) };
    }
  }
  const first = state.projects[0]?.name;
  return first === undefined ? null : { view: projectView, names: [first], places: [] };
}

function drawTop(found) {
  const project = found?.names[0];
  const pieces = [];
  if (state.me && project) {
    pieces.push(state.projects.length > 1
      ? h("select", {
        "aria-label": "Project",
        onchange: (event) => { location.hash = `/p/${event.target.value}`; },
      }, state.projects.map(({ name }) => h("option", { value: name, selected: name === project }, name)))
      : h("a", { href: `#/p/${project}` }, project));
    for (const [text, href] of found.places) {
      pieces.push(h("span", { class: "slash", "aria-hidden": "true" }, "/"));
      pieces.push(href ? h("a", { href }, text) : h("span", { "aria-current": "page" }, text));
    }
  }
  morph(trail, pieces);
  morph(aside, state.me ? [
    h("span", { id: "connection", class: "chip bad", hidden: true }, "No connection"),
    h("span", { title: "Signed in" }, state.me.name),
    h("button", { type: "button", class: "plain", onclick: signOut }, "Sign out"),
  ] : []);
}

async function signOut() {
  await post("/logout");
  state.me = null;
  await open();
}

function showConnection(good) {
  const chip = document.getElementById("connection");
  if (chip) chip.hidden = good;
}

async function open() {
  const turn = (state.turn += 1);
  clearTimeout(state.timer);
  state.leave?.();
  state.leave = null;
  try {
    if (!state.me) {
      state.me = await get("/me");
      state.projects = await list("/projects");
    }
  } catch (error) {
    if (turn !== state.turn) return;
    drawTop(null);
    document.title = "Quintile";
    morph(main, [error.status === 401 ? signedOutView() : trouble(error)]);
    if (error.status === 0) state.timer = setTimeout(open, REFRESH_MS);
    return;
  }
  if (turn !== state.turn) return;
  const found = match();
  drawTop(found);
  if (!found) {
    morph(main, [h("p", { class: "lead" }, "You are a member of no project. Ask an admin to add you.")]);
    return;
  }
  document.title = `${found.places.at(-1)?.[0] ?? found.names[0]} · Quintile`;
  const view = found.view(...found.names);
  if (view.mount) {
    main.replaceChildren();
    state.leave = view.mount(main, { onLost: () => signedOut(turn) });
    return;
  }
  await refresh(view, turn, true);
}

async function refresh(view, turn, first) {
  try {
    const loaded = await view.load();
    if (turn !== state.turn) return;
    const drawn = view.draw(loaded, () => refresh(view, turn, false));
    if (first) {
      main.replaceChildren(drawn);
      window.scrollTo(0, 0);
    } else {
      morph(main, [drawn]);
    }
    showConnection(true);
  } catch (error) {
    if (turn !== state.turn) return;
    if (error.status === 401) return signedOut(turn);
    if (!(error instanceof Problem)) throw error;
    if (first && error.status !== 0) main.replaceChildren(trouble(error));
    showConnection(false);
  }
  clearTimeout(state.timer);
  state.timer = setTimeout(() => whenVisible(() => refresh(view, turn, false)), REFRESH_MS);
}

function whenVisible(run) {
  if (!document.hidden) return run();
  document.addEventListener("visibilitychange", run, { once: true });
}

function signedOut(turn) {
  if (turn !== state.turn) return;
  state.me = null;
  open();
}

document.getElementById("skip").onclick = () => main.focus();
window.addEventListener("hashchange", open);
open();
