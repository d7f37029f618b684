// What an operator does: a dialog says what will happen and asks why; what is shown afterwards is the event.

import {Problem, get, write} from "./api.js";
import {now} from "./clock.js";
import {$, bdi, fill, h} from "./dom.js";
import {fleet, happened, listen, read} from "./fleet.js";
import {actor, may, session} from "./session.js";
import {count, eventWord, ms, plural, toSecond} from "./words.js";

/** @typedef {import("../types/page").FleetEvent} FleetEvent */
/** @typedef {import("../types/page").Breaker} Breaker */
/** @typedef {import("../types/page").Selector} Selector */
/** @typedef {import("../types/page").GateBody} GateBody */
/** @typedef {"open" | "close" | "half_open" | "reset" | "release"} Verb */
/** @typedef {{text: string, run: () => Promise<any>}} Undo */

const eventWithin = 5000; // ms for which the event of a change is awaited
const typedFrom = 11; // agents whose number has to be typed

/**
 * What each verb does, in words.
 * @type {Record<Verb, {button: string, title: string, says: string, event: string}>}
 */
export const verbs = {
  open: {button: "Hold open…", title: "Hold open", says: "Every call is refused, on every replica, until the hold ends.", event: "manual_open"},
  close: {button: "Hold closed…", title: "Hold closed", says: "Every call is admitted and recorded, and the breaker does not open, until the hold ends.", event: "manual_close"},
  half_open: {button: "Let probes through…", title: "Let probes through", says: "A few calls are let through as probes, over the whole fleet, and decide. A hold is lifted.", event: "manual_reset"},
  reset: {button: "Reset to closed…", title: "Reset to closed", says: "Calls are admitted again, and the window is empty. A hold is lifted.", event: "manual_reset"},
  release: {button: "Release hold…", title: "Release the hold", says: "The hold ends as it would by itself: an open one with probes, a closed one in a fresh closed breaker.", event: "manual_release"},
};

/**
 * The verb of a key, on every screen that shows agents.
 * @type {Record<string, Verb | undefined>}
 */
export const verbOfKey = {o: "open", c: "close", h: "half_open", r: "reset", x: "release"};

const lengths = [["900", "15 min"], ["3600", "1 h"], ["14400", "4 h"], ["86400", "1 day"], ["", "until it is lifted"]];
const ramps = [["", "at once"], ["60", "over 1 min"], ["300", "over 5 min"], ["600", "over 10 min"]];

/** @param {string} id @param {string} label @param {string[][]} options @param {string} [chosen] */
export const select = (id, label, options, chosen) => h("div", null, h("label", {for: id}, label),
  h("select", {id, name: id}, ...options.map(([value, text]) => h("option", {value, selected: value === chosen}, text))));

/** @param {string} id @param {string} label @param {Record<string, any>} [props] */
export const input = (id, label, props) => h("div", null, h("label", {for: id}, label), h("input", {id, name: id, ...props}));

/** @param {string} id @param {string} label */
const check = (id, label) => h("label.check", null, h("input", {type: "checkbox", id, name: id}), " ", label);

/**
 * Asks in a dialog. Go does what was asked for; if it throws, the dialog says why, and stays.
 * @param {{title: string, says: any[], fields?: any[], typed?: string, button: string, go: (values: Record<string, string>) => Promise<any>}} q
 */
export function ask(q) {
  const dialog = $("dialog"), error = h("p.error", {role: "alert"}), button = h("button.main", null, q.button);
  const reason = input("reason", "Reason", {required: true, maxlength: 500, autocomplete: "off"});
  const name = session.who?.name ? null : input("actor", "Your name, for the audit", {value: actor.get(), pattern: "[A-Za-z0-9._:@\\-]{1,64}", autocomplete: "username"});
  const typed = q.typed ? input("typed", `Type ${q.typed} to go on`, {required: true, autocomplete: "off"}) : null;
  const force = h("div");
  const form = h("form", {
    onsubmit: async (/** @type {Event} */ e) => {
      e.preventDefault();
      const values = /** @type {Record<string, string>} */ (Object.fromEntries(new FormData(form)));
      if (q.typed && values.typed !== q.typed) return fill(error, `That is not ${q.typed}.`);
      if (name) actor.set(values.actor);
      button.disabled = true;
      try {
        await q.go(values);
        dialog.close();
      } catch (err) {
        fill(error, /** @type {Error} */ (err).message);
        if (err instanceof Problem && /^hold_(exists|protected)$/.test(err.code)) fill(force, check("force", "Do it in spite of that hold"));
      } finally {
        button.disabled = false;
      }
    },
  }, h("h2", null, q.title), ...q.says, ...(q.fields ?? []), reason, name, typed, force, error,
  h("div.buttons", null, h("button", {type: "button", onclick: () => dialog.close()}, "Cancel"), button));
  fill(dialog, form);
  dialog.showModal();
  form.querySelector("input, select")?.focus();
}

/** @type {Undo | null} */
let undoable = null;

/**
 * Says what came of a change, for a while.
 * @param {any[]} parts @param {Undo} [undo]
 */
export function said(parts, undo) {
  undoable = undo ?? null;
  fill($("result"), ...parts, undo && " · ", undo && h("button.link", {onclick: undoLast}, undo.text, h("kbd", null, "z")),
    h("button.link", {onclick: () => fill($("result")), "aria-label": "Dismiss"}, "✕"));
}

/** Undoes what was done last, if that can be. */
export async function undoLast() {
  const undo = undoable;
  if (!undo) return;
  undoable = null;
  try {
    await undo.run();
  } catch (err) {
    said([`Not undone: ${/** @type {Error} */ (err).message}`]);
  }
}

/** @type {{wants: (e: FleetEvent) => boolean, take: (e: FleetEvent) => void}[]} */
let awaited = [];
listen((_, e) => {
  if (e) awaited.filter((a) => a.wants(e)).forEach((a) => a.take(e));
});

/**
 * The event of a change, which proves that the fleet has it; undefined if it did not come.
 * @param {string | null} agent @param {string} kind @param {() => Promise<any>} change @returns {Promise<FleetEvent | undefined>}
 */
async function eventOf(agent, kind, change) {
  const since = new Date(now() - 1000).toISOString().replace(/\.\d+/, "");
  /** @type {FleetEvent | undefined} */
  let found;
  const waits = {wants: (/** @type {FleetEvent} */ e) => e.event === kind && e.agent_id === agent, take: (/** @type {FleetEvent} */ e) => (found = e)};
  awaited.push(waits);
  try {
    await change();
    for (const end = performance.now() + eventWithin; !found && performance.now() < end;) {
      await new Promise((r) => setTimeout(r, 100));
      if (found) break;
      const {events} = await get("/v1/admin/events", undefined, {since, agent: agent ?? "-", kind});
      const last = events[events.length - 1];
      if (last) happened((found = last));
    }
  } finally {
    awaited = awaited.filter((a) => a !== waits);
  }
  read();
  return found;
}

/** @param {FleetEvent | undefined} e @param {string} what */
function told(e, what) {
  if (!e) return [`${what} was asked for and answered, but its event has not come: look at the audit.`];
  return ["✓ ", e.agent_id ? bdi(e.agent_id) : "the fleet", ` ${eventWord(e.event)}${e.to ? `, now ${e.to}` : ""}${e.actor ? ` by ${e.actor}` : ""} at ${toSecond(e.at_ms)}`];
}

/** @param {Verb} verb @param {Record<string, string>} v */
function bodyOf(verb, v) {
  return {
    reason: v.reason, ...(v.force && {force: true}), ...(v.protected && {protected: true}),
    ...(v.length && {timeout_seconds: Number(v.length)}), ...(v.ramp && {gradual_seconds: Number(v.ramp)}),
    ...(verb === "half_open" && {target_state: "HALF_OPEN"}), ...(verb === "reset" && {target_state: "CLOSED"}),
  };
}

/** @param {string} agent @param {Verb} verb @param {any} body */
function force(agent, verb, body) {
  const to = {agent, body, headers: actor.headers()};
  switch (verb) {
    case "open": return write("POST /v1/admin/circuit_breakers/{agent}/open", to);
    case "close": return write("POST /v1/admin/circuit_breakers/{agent}/close", to);
    case "release": return write("POST /v1/admin/circuit_breakers/{agent}/release", to);
  }
  return write("POST /v1/admin/circuit_breakers/{agent}/reset", to);
}

/**
 * What takes a change back; undefined: nothing does.
 * @param {Verb} verb @param {Breaker | undefined} was @returns {Undo | undefined}
 */
function undoOf(verb, was) {
  if (!was) return undefined;
  const hold = was.hold;
  if (hold) {
    const left = hold.until ? Math.max(1, Math.round((ms(hold.until) - now()) / 1000)) : undefined;
    const kind = hold.kind === "OPEN" ? "open" : "close";
    const body = {reason: was.reason || "put back", timeout_seconds: left, protected: hold.protected || undefined, force: true};
    return {text: `Undo: hold it ${kind === "open" ? "open" : "closed"} again`, run: () => done(was.agent_id, kind, body)};
  }
  if (verb === "open" || verb === "close") return {text: "Undo: release the hold", run: () => done(was.agent_id, "release", {reason: "undone"})};
  return undefined;
}

/** @param {string} agent @param {Verb} verb @param {any} body @param {Breaker} [was] */
async function done(agent, verb, body, was) {
  const e = await eventOf(agent, verbs[verb].event, () => force(agent, verb, body));
  said(told(e, verbs[verb].title), undoOf(verb, was));
}

/** @param {Verb} verb */
function fieldsOf(verb) {
  if (verb === "open" || verb === "close") return [select("length", "For how long", lengths, "3600"), check("protected", "Protected: lifted only with force")];
  if (verb === "reset") return [select("ramp", "Admit all calls", ramps, "")];
  return [];
}

/**
 * Changes one agent.
 * @param {Verb} verb @param {string} agent @param {Breaker} [was]
 */
export function change(verb, agent, was) {
  const v = verbs[verb];
  ask({
    title: v.title, says: [h("p", null, h("strong", null, bdi(agent))), h("p", null, v.says)], fields: fieldsOf(verb), button: v.title,
    go: (values) => done(agent, verb, bodyOf(verb, values), was),
  });
}

/**
 * Changes all agents that a filter finds.
 * @param {Selector} selector @param {string} words of the filter
 */
export async function changeMany(selector, words) {
  const choice = select("verb", "What is done to each", Object.entries(verbs).map(([verb, v]) => [verb, v.title]), "reset");
  /** @type {import("../types/api").ActionReply} */
  let dry;
  try {
    dry = await write("POST /v1/admin/actions", {body: {selector, action: "reset", reason: "how many", dry_run: true}});
  } catch (err) {
    return said([/** @type {Error} */ (err).message]);
  }
  const n = dry.matched, names = dry.results.slice(0, 5).map((r) => r.agent_id);
  if (n > 100 && !may("admin")) return said([`${count(n)} agents: more than 100 need the role admin.`]);
  const says = h("p", null, verbs.reset.says);
  choice.querySelector("select").addEventListener("change", (/** @type {any} */ e) => fill(says, verbs[/** @type {Verb} */ (e.target.value)].says));
  ask({
    title: `Change ${plural(n, "agent")}`,
    says: [h("p", null, `Those that are shown: ${words}. `, ...names.flatMap((name, i) => [i ? ", " : "", bdi(name)]), n > 5 ? ", …" : ""), says],
    fields: [choice, select("length", "Holds last", lengths, "3600"), select("ramp", "Resets admit all calls", ramps, "")],
    typed: n >= typedFrom ? String(n) : undefined, button: `Change ${plural(n, "agent")}`,
    go: async (v) => {
      const verb = /** @type {Verb} */ (v.verb);
      const hold = verb === "open" || verb === "close";
      const e = await eventOf(null, "action", () => write("POST /v1/admin/actions", {
        headers: actor.headers(),
        body: {
          selector, action: verb, reason: v.reason, expect: n, ...(v.force && {force: true}),
          ...(hold && v.length && {timeout_seconds: Number(v.length)}), ...(verb === "reset" && v.ramp && {gradual_seconds: Number(v.ramp)}),
        },
      }).then((r) => (dry = r)));
      said([...told(e, verbs[verb].title), `: ${count(dry.results.filter((r) => r.result === "done").length)} of ${count(n)} done`]);
    },
  });
}

const removeGate = () => write("DELETE /v1/admin/fleet", {headers: actor.headers()});

/** @param {Partial<GateBody> & {action: string}} body */
const putGate = (body) => write("PUT /v1/admin/fleet", {body: /** @type {GateBody} */ (body), headers: actor.headers()});

/**
 * Changes the gate of the whole fleet.
 * @param {"stop" | "shed" | "recover"} action
 */
export function changeGate(action) {
  const words = {
    stop: {title: "Stop every call", says: "No call of any agent is admitted, on every replica, until the gate is lifted."},
    shed: {title: "Refuse a part of all calls", says: "That share of the calls of every agent is refused, on every replica."},
    recover: {title: "Let calls return", says: "The share of calls that is admitted grows from what it is now to all."},
  }[action];
  const was = fleet.summary?.gate;
  ask({
    title: words.title, says: [h("p", null, words.says)],
    fields: [
      action === "shed" && input("percentage", "Percentage that is refused", {type: "number", min: 1, max: 100, value: 20, required: true}),
      action === "recover" ? input("seconds", "Over how many seconds", {type: "number", min: 1, value: 600, required: true})
        : select("length", "For how long", lengths, ""),
      action === "recover" && check("reset", "Reset every open breaker, too"),
    ].filter(Boolean),
    typed: "fleet", button: words.title,
    go: async (v) => {
      const e = await eventOf(null, "gate", () => putGate({
        action, reason: v.reason, ...(v.percentage && {percentage: Number(v.percentage)}), ...(v.seconds && {duration_seconds: Number(v.seconds)}),
        ...(v.length && {until_seconds: Number(v.length)}), ...(v.reset && {reset_open: true}),
      }));
      said(told(e, words.title), putBack(was));
    },
  });
}

/**
 * What brings back the gate that stood before.
 * @param {import("../types/page").Summary["gate"] | undefined} was
 * @returns {Undo}
 */
function putBack(was) {
  if (!was || was.action === "none") return {text: "Undo: lift the gate", run: lift};
  const left = was.until ? Math.max(1, (ms(was.until) - now()) / 1000) : undefined;
  const body = {
    action: was.action, reason: was.reason ?? "put back", ...(was.action === "shed" && {percentage: Math.round((1 - was.share) * 1000) / 10}),
    ...(was.action === "recover" ? {duration_seconds: left ?? 1} : left && {until_seconds: left}),
  };
  return {text: "Undo: put the gate back that stood", run: async () => said(told(await eventOf(null, "gate", () => putGate(body)), "Putting it back"))};
}

async function lift() {
  const e = await eventOf(null, "gate", removeGate);
  said(told(e, "Lifting the gate"));
}

/** Lifts the gate at once, or over a while. */
export function resume() {
  const was = fleet.summary?.gate;
  ask({
    title: "Resume", says: [h("p", null, "Calls are admitted again on every replica: at once, or a share that grows to all.")],
    fields: [select("ramp", "Admit all calls", ramps, "300")], button: "Resume",
    go: async (v) => {
      const e = await eventOf(null, "gate", () => (v.ramp ? putGate({action: "recover", duration_seconds: Number(v.ramp), reason: v.reason}) : removeGate()));
      said(told(e, "Resuming"), putBack(was));
    },
  });
}
