// What the page knows of the whole fleet: the counts of the last reading, and the events since then.

import {get, Problem} from "./api.js";
import {learn, now} from "./clock.js";
import {feed} from "./feed.js";
import {clock, count, countdown, evidenceOf, ms, percent, plural, span, toSecond} from "./words.js";

/** @typedef {import("../types/page").Summary} Summary */
/** @typedef {import("../types/page").FleetEvent} FleetEvent */
/** @typedef {import("../types/page").Check} Check */
/** @typedef {{kind: string, glyph: string, text: string}} Verdict */
/** @typedef {{kind: string, text: string, detail?: string, resume?: boolean}} Banner */

const every = 1000; // ms between two readings of the counts; rows are read with every second one
const late = 3000, old = 10_000; // ms from which numbers are amber, and grey
const remembered = 10_000; // ms for which events are laid over readings that may be older

/** The state of the page. readMs: of which time the numbers are, by the fleet's clock. */
export const fleet = {
  summary: /** @type {Summary | undefined} */ (undefined),
  checks: /** @type {Record<string, Check>} */ ({}),
  problem: /** @type {Problem | undefined} */ (undefined),
  readMs: 0,
  downMs: 0,
};

/** @type {{id: number, e: FleetEvent}[]} */
let recent = [];
/** @type {((why: "read" | "event" | "time", e?: FleetEvent) => void)[]} */
const listeners = [];
/**
 * What a screen reads together with the fleet.
 * @type {{read: () => Promise<void>}}
 */
export const screen = {read: async () => {}};

/**
 * Calls f after each reading and event, and every second.
 * @param {(why: "read" | "event" | "time", e?: FleetEvent) => void} f
 */
export const listen = (f) => listeners.push(f);

/** @param {"read" | "event" | "time"} why @param {FleetEvent} [e] */
const tell = (why, e) => listeners.forEach((f) => f(why, e));

/** @type {any} */
let timer;
let reading = false, again = false;

/**
 * Reads now, and then every second, at the same moments as every other viewer: their readings are one to Redis.
 * @param {boolean} [rows] whether the screen reads, too
 */
export async function read(rows = true) {
  if (reading) {
    again = true;
    return;
  }
  clearTimeout(timer);
  reading = true;
  do {
    if (again) rows = true;
    again = false;
    const seen = rows && screen.read().catch(() => {}); // what it could not read is said by the header
    const [summary, checks] = await Promise.allSettled([
      get("/v1/admin/summary", undefined, fleet.summary ? {} : {max_age_seconds: 2}), get("/v1/admin/checks", undefined, {max_age_seconds: 0.5}),
    ]);
    if (checks.status === "fulfilled") fleet.checks = checks.value.checks;
    if (summary.status === "fulfilled") {
      learn(summary.value.now_ms);
      fleet.summary = summary.value;
      fleet.problem = undefined;
      fleet.readMs = summary.value.now_ms;
      recent = recent.filter((r) => r.id > now() - remembered);
      for (const r of recent) if (r.id > fleet.readMs) apply(r.e);
    } else {
      if (!fleet.problem) fleet.downMs = now();
      fleet.problem = summary.reason;
      if (checks.status === "rejected") fleet.checks = {};
    }
    tell("read");
    await seen;
  } while (again);
  reading = false;
  const wait = every - (now() % every) + 20; // behind the full second, for a timer may be early
  if (!document.hidden) timer = setTimeout(() => read(Math.round(now() / every) % 2 === 0), wait);
}

/**
 * Takes an event of the stream.
 * @param {FleetEvent} e
 */
export function happened(e) {
  recent.push({id: parseInt(e.id), e});
  apply(e);
  if (e.event === "gate") {
    get("/v1/admin/fleet").then((g) => {
      if (!fleet.summary) return;
      fleet.summary.gate = {...g, since: g.started_at};
      tell("event");
    }, () => {});
  }
  tell("event", e);
}

/**
 * Lays an event over the counts.
 * @param {FleetEvent} e
 */
function apply(e) {
  const s = fleet.summary;
  if (!s || !e.agent_id || !e.from || !e.to) return;
  if (e.from !== e.to) {
    s.states[e.from] = Math.max(0, (s.states[e.from] ?? 0) - 1);
    s.states[e.to] = (s.states[e.to] ?? 0) + 1;
  }
  s.oldest_open = s.oldest_open.filter((o) => o.agent_id !== e.agent_id);
  if (e.to === "OPEN") {
    if (e.event === "opened") s.last_opening = {agent_id: e.agent_id, at: e.at};
    if (s.states.OPEN > s.oldest_open.length && s.oldest_open.length < 10) {
      s.oldest_open.push({
        agent_id: e.agent_id, opened_at: e.at, reason: e.reason, held: e.event === "manual_open", actor: e.actor,
        failures: e.failures, calls: e.calls,
      });
    }
  }
}

/** How old the numbers are: "", late or old. */
export function staleness() {
  const age = now() - fleet.readMs;
  return age > old || !fleet.readMs ? "old" : age > late ? "late" : "";
}

/** How fresh the numbers are, in words. */
export function freshness() {
  if (!fleet.readMs) return "no numbers yet";
  const age = Math.max(0, now() - fleet.readMs);
  if (staleness()) return `▲ STALE ${span(age)}, numbers of ${toSecond(fleet.readMs)}`;
  return `${feed.live ? "live" : "polled"} ${(age / 1000).toFixed(1)} s`;
}

/**
 * One sentence about the whole fleet. It never says that all is well where that is not known.
 * @returns {Verdict}
 */
export function verdict() {
  const s = fleet.summary, redis = fleet.checks.redis;
  if (fleet.problem || staleness() === "old") {
    if (!s && !fleet.problem) return {kind: "unknown", glyph: "○", text: "reading…"};
    return {kind: "unknown", glyph: "▲", text: `unknown: ${whyUnknown()}` + (s ? ` · at ${toSecond(fleet.readMs)}: ${inShort(s)}` : "")};
  }
  if (!s) return {kind: "unknown", glyph: "○", text: "reading…"};
  if (redis && redis.status === "unhealthy") {
    return {kind: "unknown", glyph: "▲", text: `unknown: ${redis.detail ?? "Redis is away"} · at ${toSecond(fleet.readMs)}: ${inShort(s)}`};
  }
  const gate = s.gate;
  if (gate.action !== "none") {
    const /** @type {Record<string, string>} */ what = {stop: "every call is STOPPED", shed: `${percent(1 - gate.share)} of all calls are REFUSED`, recover: `calls return: ${percent(gate.share)} admitted`};
    return {kind: gate.action === "recover" ? "half" : "open", glyph: gate.action === "recover" ? "◔" : "■", text: [what[gate.action] + since(gate.since), inShort(s)].join(" · ")};
  }
  if (!s.enabled) return {kind: "unknown", glyph: "▲", text: `breakers are switched OFF at this replica: every call is admitted`};
  return ofStates(s);
}

/** @param {string?} [stamp] */
function since(stamp) {
  return stamp ? ` since ${clock(ms(stamp), now())} (${span(now() - ms(stamp))})` : "";
}

function whyUnknown() {
  const redis = fleet.checks.redis;
  if (fleet.problem?.code === "unauthenticated") return "sign in to see";
  if (fleet.problem?.code === "store_unavailable" || redis?.status === "unhealthy") {
    return `Redis is away${since(redis?.since)}, and replicas answer from their own memory`;
  }
  if (fleet.problem && fleet.problem.status > 0) return fleet.problem.message;
  return `breakerd does not answer${fleet.downMs && fleet.problem ? ` since ${toSecond(fleet.downMs)}` : ""}`;
}

/** @param {Summary} s */
function inShort(s) {
  const open = s.states.OPEN ?? 0, half = s.states.HALF_OPEN ?? 0;
  if (!open && !half) return s.agents ? `${plural(s.agents, "agent")} closed` : "no agent known";
  return [open && `${plural(open, "agent")} open`, half && `${count(half)} half-open`].filter(Boolean).join(", ");
}

/** @param {Summary} s @returns {Verdict} */
function ofStates(s) {
  const open = s.states.OPEN ?? 0, half = s.states.HALF_OPEN ?? 0, t = now();
  const first = s.oldest_open.find((o) => !o.held) ?? s.oldest_open[0]; // what failed, rather than what somebody holds
  if (open) {
    const parts = [`${plural(open, "agent")} OPEN${since(first?.opened_at)}`];
    if (first?.held) parts.push(`${open > 1 ? "first: " : ""}${first.agent_id}, held${first.actor ? ` by ${first.actor}` : ""}${first.reason ? `: ${first.reason}` : ""}`);
    else if (first) parts.push(`${open > 1 ? "first: " : ""}${first.agent_id}${evidenceOf(first.failures, first.calls)}`);
    const left = s.next_probe ? ms(s.next_probe.at) - t : 0;
    if (!first?.held && s.holds.open) parts.push(`${count(s.holds.open)} held open`);
    if (left > 0) parts.push(`next probe ${countdown(left)}`);
    if (half) parts.push(`${count(half)} half-open`);
    return {kind: "open", glyph: "■", text: parts.join(" · ")};
  }
  const rest = [s.ramping && `${count(s.ramping)} ramping`, s.holds.closed && `${count(s.holds.closed)} held closed`].filter(Boolean);
  if (half) return {kind: "half", glyph: "◐", text: [`${plural(half, "agent")} HALF-OPEN, probes decide`, ...rest].join(" · ")};
  const lost = fleet.checks.redis_data;
  const doubts = [
    lost && lost.status !== "healthy" && `Redis lost its data${since(lost.since)}`,
    s.replicas.degraded.count && `${plural(s.replicas.degraded.count, "replica")} degraded`,
    s.replicas.missing.count && `${plural(s.replicas.missing.count, "replica")} missing`,
    s.unreadable.count && `${plural(s.unreadable.count, "breaker")} unreadable`,
    s.flappers.length && `${s.flappers[0].agent_id} flaps: opened ${s.flappers[0].openings} times in 10 min`,
  ].filter(Boolean);
  const all = s.agents === 0 ? "no agent is known yet" : s.agents === 1 ? "the one agent is closed" : `all ${count(s.agents)} closed`;
  const last = s.last_opening ? `last trip ${span(t - ms(s.last_opening.at))} ago` : s.agents ? "no trip on record" : "";
  return {
    kind: doubts.length ? "doubt" : s.agents ? "closed" : "unknown", glyph: doubts.length ? "▲" : s.agents ? "●" : "○",
    text: [all, ...doubts, ...rest, last].filter(Boolean).join(" · "),
  };
}

/**
 * What stands above all else.
 * @returns {Banner[]}
 */
export function banners() {
  const s = fleet.summary, /** @type {Banner[]} */ out = [];
  if (s && s.gate.action !== "none") {
    const g = s.gate;
    const /** @type {Record<string, string>} */ what = {stop: "Every call of the fleet is stopped", shed: `${percent(1 - g.share)} of all calls are refused`, recover: `Calls return: ${percent(g.share)} are admitted`};
    out.push({
      kind: "open", resume: true, text: `${what[g.action]}${since(g.since)}${g.actor ? ` by ${g.actor}` : ""}${g.until ? ` until ${clock(ms(g.until), now())}` : ""}`,
      detail: g.reason ?? "",
    });
  }
  for (const [name, word] of Object.entries({redis: "Redis", redis_data: "Data", redis_memory: "Memory of Redis", scripts: "Scripts", global_switch: "Global switch", clock: "Clock", access: "Access"})) {
    const c = fleet.checks[name];
    if (c && c.status !== "healthy") out.push({kind: c.status === "unhealthy" ? "open" : "late", text: `${word}: ${c.detail ?? c.code ?? c.status}${since(c.since)}`, detail: c.advice ?? ""});
  }
  const unsent = fleet.checks.outcomes?.unsent ?? fleet.checks.redis?.unsent;
  if (s && (s.replicas.degraded.count || s.replicas.missing.count)) {
    const names = [...s.replicas.degraded.names, ...s.replicas.missing.names].join(", ");
    const parts = [s.replicas.degraded.count && `${count(s.replicas.degraded.count)} degraded`, s.replicas.missing.count && `${count(s.replicas.missing.count)} missing`].filter(Boolean);
    out.push({kind: "late", text: `Replicas: ${parts.join(", ")}: ${names}`, detail: s.replicas.waiting ? `${plural(s.replicas.waiting, "outcome")} queued for Redis` : ""});
  } else if (unsent && unsent.outcomes > 0) {
    out.push({kind: "late", text: `${plural(unsent.outcomes, "outcome")} of this replica queued for Redis`});
  }
  return out;
}

setInterval(() => document.hidden || tell("time"), 1000);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!reading) read();
});
