// Numbers and times for people.

const NUMBER = new Intl.NumberFormat("en");

export const dash = "–";

export function count(value) {
  return value === null || value === undefined ? dash : NUMBER.format(value);
}

/** 0.0172 -> "1.72 %"; small values keep two digits, large ones one. */
export function percent(value) {
  if (value === null || value === undefined || value === "") return dash;
  const number = Number(value) * 100;
  const digits = number !== 0 && Math.abs(number) < 10 ? 2 : 1;
  return `${number.toFixed(digits).replace(/\.?0+$/, "")} %`;
}

export function metric(value) {
  if (value === null || value === undefined || Number.isNaN(Number(value))) return dash;
  const number = Number(value);
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1000) return NUMBER.format(Math.round(number));
  if (size < 0.001) return number.toExponential(1);
  return String(Number(number.toPrecision(4)));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return dash;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** Seconds since the epoch of an ISO time or of a number; null for nothing. */
export function seconds(time) {
  if (time === null || time === undefined || time === "") return null;
  const found = typeof time === "number" ? time : Date.parse(time) / 1000;
  return Number.isNaN(found) ? null : found;
}

export function ago(time) {
  const then = seconds(time);
  if (then === null) return dash;
  const past = Date.now() / 1000 - then;
  return past < 4 ? "just now" : `${duration(past)} ago`;
}

export function moment(time) {
  const then = seconds(time);
  return then === null ? "" : new Date(then * 1000).toLocaleString();
}

/** "RandomLeft" -> "random left": the platform's reason words as a phrase. */
export function words(reason) {
  return (reason ?? "").replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase();
}
