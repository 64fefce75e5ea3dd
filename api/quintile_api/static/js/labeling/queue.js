// Leased tasks ahead of the person: fetched early, images preloaded, leases renewed and given back.

import { Problem, post } from "../api.js";
import { clientName } from "./client.js";

const AHEAD = 20;
const LOW = 8;
const WAIT_S = 20;
const RENEW_MS = 60_000;
const RETRY_MS = 2000;
const SOON_MS = 50;
const PASSING = new Set(["Importing", "RoundRunning", "OthersWork", "HeldByYou", "SecondOpinion"]); // the server waits on these
const LEASES_PER_CALL = 25;

/** Tasks of one job. ``onChange()`` after every change; ``onLost()`` when signed out. */
export class TaskQueue {
  constructor(path, { onChange, onLost }) {
    this.path = path;
    this.onChange = onChange;
    this.onLost = onLost;
    this.tasks = [];
    this.images = new Map();
    this.answered = new Set();
    this.fresh = true;
    this.waiting = "";
    this.ready = 0;
    this.fetching = false;
    this.closed = false;
    this.stop = new AbortController();
    this.timer = setInterval(() => this.renew(), RENEW_MS);
  }

  get current() {
    return this.tasks[0] ?? null;
  }

  /** Drop the current task (it was answered) and look for more. */
  advance() {
    const done = this.tasks.shift();
    if (done) this.answered.add(done.slot_id);
    this.fill();
    return done;
  }

  /** Put a task in front again. */
  putBack(task) {
    this.answered.delete(task.slot_id);
    this.tasks = [task, ...this.tasks.filter((other) => other.slot_id !== task.slot_id)];
    this.preload(task);
    this.onChange();
  }

  async fill() {
    if (this.fetching || this.closed || this.tasks.length > LOW) return;
    this.fetching = true;
    let again = 0;
    try {
      const wait = this.tasks.length === 0 && this.waiting ? `?wait_s=${WAIT_S}` : "";
      const count = Math.min(LEASES_PER_CALL, AHEAD - this.tasks.length);
      const body = { count, client: await clientName(), fresh: this.fresh };
      const found = await post(`${this.path}/tasks/next${wait}`, body, { signal: this.stop.signal });
      this.fresh = false;
      this.take(found);
      if (!found.tasks.length) again = PASSING.has(found.waiting) ? SOON_MS : RETRY_MS;
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401) return this.onLost();
      this.waiting = error.status === 0 ? "Offline" : error.message;
      again = RETRY_MS;
    } finally {
      this.fetching = false;
    }
    if (this.closed) return;
    this.onChange();
    if (again && this.tasks.length === 0) setTimeout(() => this.fill(), again);
  }

  take(found) {
    this.ready = found.ready;
    this.waiting = found.tasks.length || this.tasks.length ? "" : found.waiting || found.state;
    // At the limit with empty hands: an answer with leases got lost on its way; give those back.
    if (this.waiting === "LeaseLimit") this.fresh = true;
    for (const task of found.tasks) {
      const held = this.tasks.find((other) => other.slot_id === task.slot_id);
      if (held) {
        Object.assign(held, { lease: task.lease, base_revision: task.base_revision });
      } else {
        this.answered.delete(task.slot_id);
        this.tasks.push(task);
        this.preload(task);
      }
    }
  }

  preload(task) {
    if (this.images.has(task.item_id)) return;
    const image = new Image();
    image.decoding = "async";
    image.src = task.image_url;
    this.images.set(task.item_id, image);
    if (this.images.size > 4 * AHEAD) this.images.delete(this.images.keys().next().value);
  }

  async renew() {
    if (!this.tasks.length) return;
    try {
      await post(`${this.path}/tasks/leases`, { leases: this.tasks.slice(0, LEASES_PER_CALL).map((task) => task.lease) });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // A lease that runs out costs nothing unless somebody else took the image meanwhile.
    }
  }

  /** Give back what is not answered, so that others need not wait for it. */
  close() {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.timer);
    this.stop.abort();
    const held = this.tasks.map((task) => task.lease).slice(0, LEASES_PER_CALL);
    this.tasks = [];
    if (!held.length) return;
    fetch(`/api/v1${this.path}/tasks/leases`, {
      method: "POST",
      keepalive: true,
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-Quintile-CSRF": "1" },
      body: JSON.stringify({ release: held }),
    }).catch(() => null);
  }
}

