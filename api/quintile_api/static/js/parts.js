// Pieces that several views share.

import { h, say } from "./dom.js";
import { words } from "./format.js";

const TONES = {
  Succeeded: "good", Running: "busy", Restarting: "warn", Failed: "bad", Stopped: "", Suspended: "warn",
  Pending: "", Labeling: "busy", Importing: "busy", Finalising: "busy", Covering: "busy", Exporting: "busy",
};

export function phaseOf(document) {
  return document.status?.phase ?? "Pending";
}

export function phaseChip(document) {
  const phase = phaseOf(document);
  return h("span", { class: `chip ${TONES[phase] ?? ""}`, title: document.status?.message ?? "" }, phase);
}

/** A command that can be copied. */
export function command(text) {
  return h(
    "div",
    { class: "command" },
    h("code", null, text),
    h("button", {
      type: "button",
      onclick: async (event) => {
        const button = event.currentTarget;
        await navigator.clipboard?.writeText(text);
        button.textContent = "Copied";
        say("Copied.");
      },
    }, "Copy"),
  );
}

export function empty(title, text, ...commands) {
  return h("div", { class: "card empty" }, h("p", null, h("strong", null, title), ` ${text}`), commands.map(command));
}

/** A table whose rows lead somewhere. Columns: [head, cell(row), class]. */
export function table(label, columns, rows, { href, key } = {}) {
  return h(
    "div",
    { class: "card scroll" },
    h(
      "table",
      { "aria-label": label },
      h("thead", null, h("tr", null, columns.map(([head, , kind]) => h("th", { scope: "col", class: kind }, head)))),
      h("tbody", null, rows.map((row) =>
        h("tr", {
          "data-key": key?.(row),
          class: href ? "goes" : null,
          onclick: href ? (event) => follow(event, href(row)) : null,
        }, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(row)))))),
    ),
  );
}

function follow(event, target) {
  if (event.target.closest("a, button, input") || window.getSelection()?.toString()) return;
  if (event.ctrlKey || event.metaKey) window.open(target, "_blank");
  else location.hash = target.slice(1);
}

export function section(title, count, body, ...actions) {
  return h("section", { "aria-label": title }, h("div", { class: "bar" },
    h("h2", null, title, count === undefined ? null : h("span", { class: "count" }, String(count))), actions), body);
}

/** Figures in a row: [name, value, small text]. */
export function tiles(entries) {
  return h("dl", { class: "card tiles" }, entries.map(([name, value, small, kind]) =>
    h("div", null, h("dt", null, name), h("dd", { class: kind }, value, small ? h("small", null, small) : null))));
}

export function conditionTable(conditions) {
  return table("Conditions", [
    ["Condition", (row) => row.type],
    ["", (row) => row.status],
    ["Why", (row) => [words(row.reason), row.message ? h("span", { class: "under" }, row.message) : null]],
  ], conditions ?? [], { key: (row) => row.type });
}

/** What went wrong with an action or a load. */
export function trouble(error) {
  return h("div", { class: "note bad", role: "alert" }, `${error.message} ${error.hint ?? ""}`);
}

/** A button that runs something and shows what went wrong beside it. */
export function action(label, run, kind = "") {
  return h("button", {
    type: "button",
    class: kind,
    onclick: async (event) => {
      const button = event.currentTarget;
      button.disabled = true;
      try {
        await run();
        say(`${label}: done.`);
      } catch (error) {
        say(`${label}: ${error.message}`);
        button.setAttribute("title", error.message);
        button.textContent = `${label}: failed`;
      } finally {
        button.disabled = false;
      }
    },
  }, label);
}

/** A dialog with a title and content. */
export function ask(title, ...content) {
  const dialog = h("dialog", { "aria-label": title }, h("div", { class: "stack" }, h("h2", null, title), content,
    h("form", { method: "dialog" }, h("button", null, "Close"))));
  dialog.onclose = () => dialog.remove();
  document.body.append(dialog);
  dialog.showModal();
}
