// Words and numbers for people.

/** @typedef {import("../types/page").Breaker} Breaker */

const day = 24 * 3_600_000;

/**
 * A duration in its two largest units: 13 min, 1 h 5 min.
 * @param {number} ms
 */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h` + (s < 6 * 3600 && s % 3600 >= 60 ? ` ${Math.floor((s % 3600) / 60)} min` : "");
  return `${Math.floor(s / 86400)} days`;
}

/**
 * A countdown: 00:41, 1:02:03.
 * @param {number} ms
 */
export function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000)), two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  if (s >= 48 * 3600) return span(ms);
  const rest = `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${rest}` : rest;
}

const clockOf = new Intl.DateTimeFormat([], {hour: "2-digit", minute: "2-digit", hourCycle: "h23"});
const secondsOf = new Intl.DateTimeFormat([], {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});
const dateOf = new Intl.DateTimeFormat([], {month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23"});

/**
 * The time of day, with the date if that is not within a day of now.
 * @param {number} ms @param {number} now
 */
export function clock(ms, now) {
  return (Math.abs(now - ms) < day ? clockOf : dateOf).format(ms);
}

/** @param {number} ms */
export const toSecond = (ms) => secondsOf.format(ms);

/**
 * Whole numbers with marks between thousands.
 * @param {number} n
 */
export const count = (n) => n.toLocaleString("en");

/** @param {number} n @param {string} one @param {string} [many] */
export const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many ?? one + "s"}`;

/** @param {string?} stamp RFC 3339 */
export const ms = (stamp) => (stamp ? Date.parse(stamp) : 0);

/**
 * A share of 1.
 * @param {number} share
 */
export const percent = (share) => `${Math.round(share * 1000) / 10} %`;

/**
 * The kinds of state that a row is shown as: more than the three of the machine.
 * @type {Record<string, {glyph: string, word: string}>}
 */
export const kinds = {
  open: {glyph: "■", word: "OPEN"},
  half: {glyph: "◐", word: "HALF-OPEN"},
  ramp: {glyph: "◔", word: "RAMPING"},
  held: {glyph: "◆", word: "HELD CLOSED"},
  closed: {glyph: "●", word: "CLOSED"},
};

/** @param {{state: string, hold?: {kind: string}?, ramp?: any}} b */
export function kindOf(b) {
  if (b.state === "OPEN") return "open";
  if (b.state === "HALF_OPEN") return "half";
  if (b.hold) return "held";
  return b.ramp ? "ramp" : "closed";
}

/**
 * How many calls failed of how many, in brackets.
 * @param {number} failures @param {number} calls
 */
export const evidenceOf = (failures, calls) => (calls > 0 ? ` (${count(failures)} of ${count(calls)} failed)` : "");

/**
 * How many calls a breaker was judged by.
 * @param {{failure_count: number, failure_rate: number}} b
 */
const callsOf = (b) => (b.failure_rate > 0 ? Math.round(b.failure_count / b.failure_rate) : 0);

/** @type {Record<string, string>} */
const causes = {
  consecutive_failures: "failures in a row", failure_rate: "failure rate", slow_rate: "slow calls",
  probe_failed: "probes failed", upstream_retry_after: "asked to wait", hand_edit: "keys edited by hand",
};

/**
 * Why a breaker is as it is, in few words.
 * @param {Breaker} b
 */
export function cause(b) {
  if (b.state === "CLOSED" && !b.hold) {
    const w = b.window;
    return w && w.failures > 0 ? `${count(w.failures)} of ${count(w.calls)} failed` : "";
  }
  if (b.hold) return b.reason ?? "";
  const words = causes[b.reason ?? ""] ?? b.reason ?? "";
  const run = b.reason === "consecutive_failures" && b.consecutive_failures ? `${count(b.consecutive_failures)} ` : "";
  return run + words + evidenceOf(b.failure_count, callsOf(b));
}

/**
 * What happens next with a breaker, and when.
 * @param {Breaker} b @param {number} now
 */
export function next(b, now) {
  if (b.hold) {
    const by = b.hold.actor ? ` by ${b.hold.actor}` : "";
    return b.hold.until ? `held until ${clock(ms(b.hold.until), now)}${by}` : `held${by} until lifted`;
  }
  if (b.state === "OPEN") {
    if (!b.timeout_until) return "";
    const left = ms(b.timeout_until) - now;
    return left > 0 ? `probe in ${countdown(left)}` : "probe with the next call";
  }
  if (b.state === "HALF_OPEN") return "probes decide";
  return b.ramp ? `all calls in ${countdown(ms(b.ramp.until) - now)}` : "";
}

/**
 * Probes of a round: succeeded of needed.
 * @param {Breaker} b
 */
export const probes = (b) => (b.probes ? `${b.probes.succeeded}/${b.probes.need}` : "");

/** @type {Record<string, string>} */
const eventWords = {
  opened: "opened", half_opened: "lets probes through", closed: "closed", hold_expired: "hold ended",
  manual_open: "held open", manual_close: "held closed", manual_reset: "reset", manual_release: "hold released",
  configured: "configured", forgotten: "deleted", hand_edit: "keys edited by hand", hand_restored: "protected hold put back",
  healed: "a key repaired", evidence: "reported by", hold_ends_soon: "hold ends soon", action: "action on many",
  gate: "gate of the fleet", replica_joined: "replica joined", replica_left: "replica left",
  replica_gone: "replica gone without a word", workflow: "workflow changed", restore: "backup restored",
  store_reset: "Redis lost its data",
};

/** @param {string} kind */
export const eventWord = (kind) => eventWords[kind] ?? kind;
