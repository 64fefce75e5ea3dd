// The labeling screen: one image, one key, the next image.

import { get, Problem, post } from "../api.js";
import { h, morph, say } from "../dom.js";
import { count, percent, words } from "../format.js";
import { clientName, randomId } from "../labeling/client.js";
import { Journal } from "../labeling/journal.js";
import { TaskQueue } from "../labeling/queue.js";
import { trouble } from "../parts.js";

const KEYS = [..."1234567890abcdefghijklmnopqrstuvwyz"];
const SINGLE = /^[0-9a-wyz]$/i;
const TINY = 96;
const MANY = 14;
const UNDO_LIMIT = 200;
const FLASH_MS = 130;

const WAITS = {
  Importing: "The images are being read.",
  RoundRunning: "The machine is learning from your answers. The next images come in a moment.",
  OthersWork: "All images that are left are with other people right now.",
  HeldByYou: "The images that are left are open in another tab or program of yours. If that is gone, they come here within ten minutes.",
  SecondOpinion: "What is left needs a second opinion from another person.",
  LeaseLimit: "You hold as many images as one person may. Close other tabs, or wait.",
  BudgetSpent: "All answers of the budget are given.",
  Suspended: "This job is suspended. Resume it to go on.",
  Exporting: "All answers are in; the result is being written.",
  Finished: "All done. Nothing is left to label.",
  Offline: "The server does not answer. Your answers are kept here and sent when it is back.",
};

export function labelView(project, name) {
  const path = `/projects/${encodeURIComponent(project)}/labeling-jobs/${encodeURIComponent(name)}`;
  return {
    mount(main, { onLost }) {
      const screen = new Screen(main, { path, project, name, onLost });
      screen.start();
      return () => screen.stop();
    },
  };
}

/** Keys of the labels: the labels themselves where each is one sign ("0" to "9"), else 1-9, 0, a-z. */
function keysOf(labels) {
  const own = labels.map((label) => label.toLowerCase());
  const single = own.every((label) => SINGLE.test(label)) && new Set(own).size === own.length;
  return single ? own : KEYS.slice(0, labels.length);
}

class Screen {
  constructor(main, { path, project, name, onLost }) {
    this.main = main;
    this.path = path;
    this.back = `#/p/${project}/labeling/${name}`;
    this.onLost = onLost;
    this.labels = [];
    this.keys = [];
    this.done = [];
    this.count = 0;
    this.shownAt = 0;
    this.shown = null;
    this.pressed = null;
    this.undoing = false;
    this.note = "";
    this.saving = { waiting: 0, offline: false };
    this.journal = new Journal(path, {
      onChange: (state) => { this.saving = state; this.draw(); },
      onResult: (answer, result) => this.judged(answer, result),
      onLost,
    });
    this.queue = new TaskQueue(path, { onChange: () => this.draw(), onLost });
    this.onKey = (event) => this.key(event);
    this.onHide = () => this.queue.close();
  }

  async start() {
    try {
      const job = await get(this.path);
      this.labels = job.spec.labels;
      this.keys = keysOf(this.labels);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401) return this.onLost();
      this.main.replaceChildren(trouble(error));
      return;
    }
    document.addEventListener("keydown", this.onKey);
    window.addEventListener("pagehide", this.onHide);
    this.draw();
    this.journal.adopt(await clientName());
    this.journal.send();
    this.queue.fill();
  }

  stop() {
    document.removeEventListener("keydown", this.onKey);
    window.removeEventListener("pagehide", this.onHide);
    this.queue.close();
    this.journal.close();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const task = this.queue.current;
    const place = this.keys.indexOf(event.key.toLowerCase());
    if (event.key === "Backspace") this.undo();
    else if (event.key === "Escape") location.hash = this.back.slice(1);
    else if (!task || event.repeat) return;
    else if (event.key.toLowerCase() === "x") this.answer({ labels: [], verdict: "skip" }, "keyboard");
    else if (event.key === " " && task.suggestion) this.choose(task.suggestion.class_id, "keyboard");
    else if (place >= 0) this.choose(place, "keyboard");
    else return;
    event.preventDefault();
  }

  choose(classId, via) {
    this.pressed = classId;
    setTimeout(() => { this.pressed = null; this.draw(); }, FLASH_MS);
    this.answer({ labels: [classId], verdict: "answer" }, via);
  }

  answer({ labels, verdict }, via) {
    const task = this.queue.advance();
    if (!task) return;
    const answer = {
      client_id: randomId(),
      slot_id: task.slot_id,
      lease: task.lease,
      item_id: task.item_id,
      base_revision: task.base_revision,
      payload: { labels, shapes: [], verdict },
      seconds: Math.round((performance.now() - this.shownAt) / 10) / 100,
      via,
    };
    this.done = [...this.done, { task, clientId: answer.client_id }].slice(-UNDO_LIMIT);
    this.count += 1;
    this.note = "";
    this.journal.add(answer);
    say(verdict === "answer" ? this.labels[labels[0]] : "skipped");
    this.draw();
  }

  async undo() {
    const last = this.undoing ? null : this.done.pop();
    if (!last) return;
    if (this.journal.cancel(last.clientId)) {
      this.count -= 1;
      this.queue.putBack(last.task);
      return;
    }
    this.undoing = true;
    try {
      await this.journal.settled();
      const result = await post(`${this.path}/annotations/undo`, { client_id: randomId(), item_id: last.task.item_id });
      this.note = "";
      this.count -= 1;
      this.queue.putBack({ ...last.task, base_revision: result.revision });
      say("undone");
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.note = `That answer stays: ${error.message}`;
      this.draw();
    } finally {
      this.undoing = false;
    }
  }

  judged(answer, result) {
    if (result.outcome === "refused") this.note = `An answer was refused: ${result.problem}`;
    else if (result.outcome === "stale") this.note = "An answer came after another revision of the same image; both are kept.";
    this.draw();
  }

  draw() {
    const task = this.queue.current;
    if (task?.slot_id !== this.shown) {
      this.shown = task?.slot_id ?? null;
      this.shownAt = performance.now();
    }
    morph(this.main, [h("div", { class: "bench" }, this.easel(task), this.classes(task))]);
  }

  easel(task) {
    const { waiting, offline } = this.saving;
    const chip = offline ? ["bad", `offline · ${waiting} kept here`] : waiting ? ["busy", `saving ${waiting}`] : ["good", "saved"];
    return h("section", { class: "card easel", "aria-label": "Image" },
      h("div", { class: "bar" },
        h("span", { class: "grow" }, task ? task.name : ""),
        this.note ? h("span", { class: "chip warn" }, this.note) : null,
        h("span", null, `${count(this.count)} answered here`),
        h("span", { class: `chip ${chip[0]}`, role: "status" }, chip[1])),
      h("div", { class: "picture" }, task ? this.image(task) : this.pause()),
      h("p", { class: "why" }, task ? [whyOf(task), task.suggestion ? h("span", { class: "quiet" }, ` · Space takes the suggestion: ${task.suggestion.label} (${percent(task.suggestion.confidence)})`) : null] : ""));
  }

  image(task) {
    const tiny = Math.max(task.width, task.height) <= TINY;
    return h("img", {
      "data-key": task.slot_id, class: tiny ? "tiny" : null, src: task.image_url, alt: `Image ${task.name}`,
      width: task.width, height: task.height,
    });
  }

  pause() {
    const reason = this.queue.waiting;
    if (!reason) return h("p", { class: "empty quiet" }, "Fetching images…");
    return h("div", { class: "empty" },
      h("p", null, h("strong", null, WAITS[reason] ?? words(reason))),
      h("a", { class: "button", href: this.back }, "Back to the job"));
  }

  classes(task) {
    const many = this.labels.length > MANY;
    return h("section", { class: "classes", "aria-label": "Labels" },
      h("div", { class: `many${many ? " wide" : ""}` }, this.labels.map((label, place) => {
        const hinted = task?.suggestion?.class_id === place;
        return h("button", {
          type: "button",
          class: `class${hinted ? " hinted" : ""}${this.pressed === place ? " pressed" : ""}`,
          disabled: !task,
          title: label,
          onclick: (event) => { event.currentTarget.blur(); this.choose(place, "mouse"); },
        }, this.keys[place] ? h("kbd", null, this.keys[place]) : null, h("span", null, label),
        hinted ? h("small", null, percent(task.suggestion.confidence)) : null);
      })),
      h("div", { class: "row" },
        h("button", { type: "button", class: "class", disabled: !this.done.length, onclick: () => this.undo() }, h("kbd", null, "⌫"), h("span", null, "Undo")),
        h("button", { type: "button", class: "class", disabled: !task, onclick: () => this.answer({ labels: [], verdict: "skip" }, "mouse") }, h("kbd", null, "x"), h("span", null, "Skip"))),
      h("dl", { class: "keys" },
        h("dt", null, h("kbd", null, "Space")), h("dd", null, "take the suggestion"),
        h("dt", null, h("kbd", null, "Esc")), h("dd", null, "back to the job"),
        h("dt", null, count(this.queue.ready)), h("dd", null, "further images ready")));
  }
}

function whyOf(task) {
  if (task.why) return task.why;
  return task.purpose === "random" ? "random: this image measures the machine" : words(task.purpose);
}
