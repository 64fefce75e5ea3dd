// Requests to the REST interface; errors are the server's problem documents.

const PREFIX = "/api/v1";
const PAGE_LIMIT = 20;

/** An answer that is no success; ``status`` 0 means: the server did not answer. */
export class Problem extends Error {
  constructor(status, detail, hint) {
    super(detail);
    this.status = status;
    this.hint = hint ?? "";
  }
}

/** Send a request; return the parsed JSON, text for other types, null for no content. */
export async function request(method, path, body, options = {}) {
  const headers = { "X-Quintile-CSRF": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path.startsWith("/api/") ? path : PREFIX + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      signal: options.signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer.", "Is it still running?");
  }
  if (answer.status === 204) return null;
  const isJson = (answer.headers.get("content-type") ?? "").includes("json") &&
    !(answer.headers.get("content-type") ?? "").includes("ndjson");
  if (!answer.ok) {
    const problem = isJson ? await answer.json() : {};
    throw new Problem(answer.status, problem.detail ?? `The server answered ${answer.status}.`, problem.hint);
  }
  return isJson ? answer.json() : answer.text();
}

export const get = (path, options) => request("GET", path, undefined, options);
export const post = (path, body, options) => request("POST", path, body ?? {}, options);

/** Return the items of a keyset list, all of its pages (within reason). */
export async function list(path, options) {
  const items = [];
  let cursor = "";
  for (let page = 0; page < PAGE_LIMIT; page += 1) {
    const mark = path.includes("?") ? "&" : "?";
    const found = await get(`${path}${mark}limit=500${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, options);
    items.push(...found.items);
    cursor = found.next_cursor ?? found.next ?? "";
    if (!cursor) break;
  }
  return items;
}

/** Like ``list``, but nothing where the server has no such part. */
export async function listOrNothing(path, options) {
  try {
    return await list(path, options);
  } catch (error) {
    if (error.status === 404) return [];
    throw error;
  }
}

/** Return the answer, or null where there is none (404). */
export async function getOrNull(path, options) {
  try {
    return await get(path, options);
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** Parse NDJSON. */
export function lines(text) {
  return String(text).split("\n").filter(Boolean).map((line) => JSON.parse(line));
}
