// The screens Events and Audit, and rows of events.

import {get} from "./api.js";
import {input} from "./actions.js";
import {bdi, fill, fillOnce, h} from "./dom.js";
import {agentLink} from "./list.js";
import {clock, eventWord, toSecond} from "./words.js";
import {now} from "./clock.js";

/** @typedef {import("../types/page").FleetEvent} FleetEvent */
/** @typedef {import("../types/page").Trip} Trip */
/** @typedef {import("../types/page").Screen} Screen */

const shownAtMost = 200;

/** @param {FleetEvent} e */
function what(e) {
  const to = e.to && e.from !== e.to ? ` ${e.from ?? ""} → ${e.to}` : "";
  const seen = e.calls ? `, ${e.failures} of ${e.calls} failed` : "";
  return [h("b", null, eventWord(e.event)), to, seen, e.reason && ": ", e.reason && bdi(e.reason), e.change && h("details", null, h("summary", null, "what changed"), h("pre", null, JSON.stringify(e.change, null, 1)))];
}

/**
 * A table of events, newest first.
 * @param {FleetEvent[]} events @param {boolean} named with the agents' names
 */
export function eventRows(events, named) {
  if (!events.length) return h("p.none", null, "none");
  return h("table.events", null, h("thead", null, h("tr", null, ...["Time", named && "Agent", "What", "Who"].filter(Boolean).map((c) => h("th", {scope: "col"}, c)))), h("tbody", null, ...events.map((e) => h("tr", {class: (e.to ?? "").toLowerCase()},
    h("td", {title: e.at}, `${Math.abs(now() - e.at_ms) > 86_400_000 ? clock(e.at_ms, now()) : toSecond(e.at_ms)}`), named && h("td", null, e.agent_id ? agentLink(e.agent_id) : "fleet"), h("td", null, ...what(e)),
    h("td", null, e.actor && bdi(e.actor), e.address && h("small", null, ` ${e.address}`))))));
}

/** @param {URLSearchParams} params @param {(url: string, replace?: boolean) => void} go @param {"events" | "audit"} which */
function stream(params, go, which) {
  const filters = h("form.tools", {
    onsubmit: (/** @type {Event} */ e) => e.preventDefault(),
    onchange: () => {
      const p = new URLSearchParams();
      for (const [k, v] of new FormData(filters)) if (v) p.set(k, String(v));
      go(`${which}${String(p) && "?" + p}`);
    },
  }, input("agent", "Agent", {value: params.get("agent") ?? "", placeholder: "any; - for the fleet's own"}), input("kind", "Kinds", {value: params.get("kind") ?? "", placeholder: "opened,closed"}),
  which === "audit" && input("actor", "Who", {value: params.get("actor") ?? ""}));
  const error = h("p.error", {role: "alert"}), rows = h("div"), more = h("div.buttons");
  let cursor = params.get("cursor") ?? "";
  const query = () => ({agent: params.get("agent") ?? "", kind: params.get("kind") ?? "", limit: shownAtMost, cursor});
  async function read() {
    if (rows.matches(":hover") && rows.querySelector("details[open]")) return; // somebody reads
    try {
      /** @type {FleetEvent[]} */
      let events;
      /** @type {string | null} */
      let next;
      if (which === "audit") ({entries: events, next_cursor: next} = await get("/v1/admin/audit", undefined, {...query(), actor: params.get("actor") ?? ""}));
      else ({events, next_cursor: next} = await get("/v1/admin/events", undefined, query()));
      fill(error);
      fillOnce(rows, events, () => [eventRows(events, true)]);
      const p = new URLSearchParams(params);
      if (next) p.set("cursor", next);
      fillOnce(more, next, () => [next && h("a", {href: `${which}?${p}`, "data-go": true}, "Older")]);
    } catch (err) {
      fill(error, /** @type {Error} */ (err).message);
      throw err;
    }
  }
  return {filters, error, rows, more, read};
}

/**
 * Agents that opened, each below the one that failed before it.
 * @param {Trip[]} trips @returns {any}
 */
function tree(trips) {
  return h("ul.tree", null, ...trips.map((t) => h("li", null, agentLink(t.agent_id), ` opened at ${toSecond(t.at_ms)}`, t.openings > 1 && ` (${t.openings} times)`, t.cause && ": ", t.cause && bdi(t.cause),
    t.via.length > 0 && h("small", null, " by way of ", ...t.via.flatMap((v, i) => [i ? ", " : "", bdi(v)])), t.followed.length > 0 && tree(t.followed))));
}

/** @param {URLSearchParams} params @param {(url: string, replace?: boolean) => void} go @returns {Screen} */
export function events(params, go) {
  const s = stream(params, go, "events"), cascades = h("div");
  return {
    title: "Events", root: h("section", null, h("h2", null, "Who failed first, in the last hour"), cascades, h("h2", null, "Events"), s.filters, s.error, s.rows, s.more),
    async read() {
      const [found] = await Promise.all([get("/v1/admin/cascades", undefined, {last: "1h"}), s.read()]);
      fillOnce(cascades, found.cascades, () => [found.cascades.length ? tree(found.cascades) : h("p.none", null, "no breaker opened")]);
    },
    changed() {}, key() {}, leave() {},
  };
}

/** @param {URLSearchParams} params @param {(url: string, replace?: boolean) => void} go @returns {Screen} */
export function audit(params, go) {
  const s = stream(params, go, "audit");
  return {title: "Audit", root: h("section", null, h("h2", null, "What people did"), s.filters, s.error, s.rows, s.more), read: s.read, changed() {}, key() {}, leave() {}};
}
