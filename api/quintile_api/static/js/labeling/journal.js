// Answers on their way to the server: kept in the browser until each one is acknowledged.

import { Problem, post } from "../api.js";

const BATCH = 25;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];

/** One journal per job. ``onChange(state)``: {waiting, offline}; ``onResult(answer, result)``. */
export class Journal {
  constructor(path, { onChange, onResult, onLost }) {
    this.path = path;
    this.prefix = `quintile.journal:${path}`;
    this.key = this.prefix;
    this.onChange = onChange;
    this.onResult = onResult;
    this.onLost = onLost;
    this.waiting = [];
    this.sending = null;
    this.failures = 0;
    this.timer = 0;
    this.closed = false;
  }

  /** Take over what this and other tabs left; sending an answer twice is the same answer. */
  adopt(client) {
    this.key = `${this.prefix}:${client}`;
    const left = new Map(this.waiting.map((answer) => [answer.client_id, answer]));
    try {
      const keys = Object.keys(localStorage).filter((key) => key === this.prefix || key.startsWith(`${this.prefix}:`));
      for (const key of keys) {
        for (const answer of JSON.parse(localStorage.getItem(key))) left.set(answer.client_id, answer);
        if (key !== this.key) localStorage.removeItem(key);
      }
    } catch {
      // Forbidden storage, or not ours: what was read before that is kept.
    }
    this.waiting = [...left.values()];
    if (this.waiting.length) this.keep();
  }

  keep() {
    try {
      if (this.waiting.length) localStorage.setItem(this.key, JSON.stringify(this.waiting));
      else localStorage.removeItem(this.key);
    } catch {
      // A full or forbidden storage only costs the replay after a reload.
    }
    this.onChange({ waiting: this.waiting.length, offline: this.failures > 0 });
  }

  add(answer) {
    this.waiting.push(answer);
    this.keep();
    this.send();
  }

  /** Take back an answer that was not sent yet; return whether that was possible. */
  cancel(clientId) {
    if (this.sending?.some((answer) => answer.client_id === clientId)) return false;
    const before = this.waiting.length;
    this.waiting = this.waiting.filter((answer) => answer.client_id !== clientId);
    this.keep();
    return this.waiting.length < before;
  }

  /** Resolve once nothing is being sent. */
  async settled() {
    while (this.current) await this.current;
  }

  send() {
    if (this.current || this.closed || !this.waiting.length) return;
    clearTimeout(this.timer);
    this.current = this.sendBatch().finally(() => {
      this.current = null;
      this.sending = null;
      if (this.failures === 0) this.send();
    });
  }

  async sendBatch() {
    this.sending = this.waiting.slice(0, BATCH);
    this.onChange({ waiting: this.waiting.length, offline: this.failures > 0 });
    try {
      const { results } = await post(`${this.path}/annotations`, { answers: this.sending });
      const sent = this.sending;
      this.waiting = this.waiting.slice(sent.length);
      this.failures = 0;
      this.keep();
      sent.forEach((answer, place) => this.onResult(answer, results[place]));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.failed(error);
    }
  }

  failed(error) {
    if (error.status === 401) return this.onLost();
    if (error.status >= 400 && error.status < 500 && error.status !== 429) {
      // The server will never take this batch: say so for each answer and go on.
      const refused = this.sending;
      this.waiting = this.waiting.slice(refused.length);
      this.keep();
      refused.forEach((answer) => this.onResult(answer, { outcome: "refused", problem: error.message }));
      return;
    }
    this.failures += 1;
    this.keep();
    const delay = RETRY_MS[Math.min(this.failures, RETRY_MS.length) - 1];
    this.timer = setTimeout(() => this.send(), delay);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }
}
