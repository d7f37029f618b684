// The screens Replicas and Controls.

import {get} from "./api.js";
import {changeGate, resume} from "./actions.js";
import {bdi, fillOnce, h} from "./dom.js";
import {fleet} from "./fleet.js";
import {agentLink} from "./list.js";
import {may} from "./session.js";
import {clock, count, ms, next, percent, plural, span, toSecond} from "./words.js";
import {now} from "./clock.js";

/** @typedef {import("../types/page").Screen} Screen */
/** @typedef {import("../types/page").Row} Row */

/** @param {string[]} heads @param {any[][]} rows @param {(i: number) => string | null} [kind] */
const table = (heads, rows, kind) => h("table", null, h("thead", null, h("tr", null, ...heads.map((c) => h("th", {scope: "col"}, c)))),
  h("tbody", null, ...rows.map((cells, i) => h("tr", {class: kind?.(i)}, ...cells.map((c, j) => h(j ? "td" : "th", j ? null : {scope: "row"}, c))))));

/** @returns {Screen} */
export function replicas() {
  const rows = h("div"), checks = h("div");
  return {
    title: "Replicas", root: h("section", null, h("h2", null, "Replicas"), rows, h("h2", null, "Health of the replica that answers"), checks),
    async read() {
      const list = await get("/v1/admin/replicas");
      fillOnce(rows, list.replicas.map((r) => ({...r, age_seconds: 0, heartbeat_ms: 0, goroutines: 0, memory: 0, cpu: Math.round(r.cpu.share * 20)})), () => [
        list.degraded && h("p.error", null, "This replica is cut off from Redis: it knows of itself alone."),
        table(["Replica", "State", "Program", "Since", "Redis, 50 % and 99 %", "Waits for Redis", "CPU", "Notes"], list.replicas.map((r) => [
          h("span", null, bdi(r.id), r.id === list.self && " (this one)"), `${r.state === "alive" ? (r.degraded_since ? "▲ degraded" : "● alive") : `■ ${r.state}`}`, `${r.program} ${r.version}`,
          r.started_at ? clock(ms(r.started_at), now()) : "", `${r.round_trip_ms.p50.toFixed(1)} and ${r.round_trip_ms.p99.toFixed(1)} ms`,
          r.waiting.outcomes ? `${plural(r.waiting.outcomes, "outcome")}, ${span(r.waiting.age_seconds * 1000)}` : "nothing", percent(r.cpu.share),
          [r.degraded_since && `degraded since ${toSecond(ms(r.degraded_since))}`, !r.enabled && "global switch off", r.drifts && "another policy", r.last_error && r.degraded_since && r.last_error].filter(Boolean).join("; "),
        ]), (i) => (list.replicas[i].state !== "alive" || list.replicas[i].degraded_since ? "open" : null)),
      ]);
      const judged = Object.entries(fleet.checks).sort(([, a], [, b]) => a.score - b.score);
      fillOnce(checks, judged.map(([n, c]) => [n, c.status, c.detail, c.advice]), () => [table(["Check", "Status", "What", "What to do"],
        judged.map(([n, c]) => [n, `${c.status === "healthy" ? "●" : c.status === "degraded" ? "▲" : "■"} ${c.status}`, bdi(c.detail ?? ""), bdi(c.advice ?? "")]), (i) => (judged[i][1].status === "healthy" ? null : "open"))]);
    },
    changed() {}, key() {}, leave() {},
  };
}

/** @returns {Screen} */
export function controls() {
  const gate = h("div"), buttons = h("div"), holds = h("div"), overrides = h("div");
  return {
    title: "Controls", root: h("section", null, h("h2", null, "The gate of the whole fleet"), gate, buttons, h("h2", null, "Holds"), holds, h("h2", null, "Overrides"), overrides),
    async read() {
      const of = (/** @type {any} */ query) => get("/v1/admin/circuit_breakers", undefined, {limit: 100, ...query});
      const [g, held, overridden] = await Promise.all([get("/v1/admin/fleet"), of({hold: "any", sort: "worst"}), of({override: "any", include: ["override"]})]);
      fillOnce(gate, {...g, now_ms: 0}, () => [
        h("p", null, g.action === "none" ? "No gate stands: every call is for its breaker to judge." : `${g.action}: ${percent(g.share)} of all calls admitted, since ${clock(ms(g.started_at), now())}${g.actor ? ` by ${g.actor}` : ""}: `, bdi(g.reason ?? "")),
        g.action !== "none" && h("p", null, `Obeyed by ${g.acknowledged.join(", ") || "nobody"}.`, g.missing.length > 0 && ` Perhaps not heard by ${g.missing.join(", ")}.`, g.not_covered.length > 0 && ` Switched off: ${g.not_covered.join(", ")}.`),
      ]);
      fillOnce(buttons, [g.action, may("admin")], () => [ // apart, so that none is replaced under a finger
        may("admin") ? h("div.buttons", null, h("button.danger", {id: "stop", onclick: () => changeGate("stop")}, "Stop every call…"), h("button", {id: "shed", onclick: () => changeGate("shed")}, "Refuse a part…"),
          g.action !== "none" && h("button.main", {id: "resume", onclick: resume}, "Resume…")) : h("p.none", null, "To change it needs the role admin."),
      ]);
      fillOnce(holds, held.circuit_breakers.map((b) => [b.agent_id, b.hold, b.reason]), () => [held.total > 100 && h("p", null, `The first 100 of ${count(held.total)}.`), held.total ? table(["Agent", "Held", "Since", "Until", "Reason"],
        held.circuit_breakers.map((b) => [agentLink(b.agent_id), `${b.hold?.kind.toLowerCase()}${b.hold?.protected ? ", protected" : ""}`, clock(ms(b.hold?.since ?? null), now()), next(/** @type {Row} */ (b), now()), bdi(b.reason ?? "")])) : h("p.none", null, "none")]);
      fillOnce(overrides, overridden.circuit_breakers.map((b) => [b.agent_id, b.override]), () => [overridden.total > 100 && h("p", null, `The first 100 of ${count(overridden.total)}.`), overridden.total ? table(["Agent", "By", "At", "Until", "Reason", "In force"],
        overridden.circuit_breakers.map((b) => [agentLink(b.agent_id), bdi(b.override?.by ?? ""), b.override?.at ? clock(ms(b.override.at), now()) : "", b.override?.until ? clock(ms(b.override.until), now()) : "until removed", bdi(b.override?.reason ?? ""), b.override?.problem ? h("span", null, "▲ no: ", bdi(b.override.problem)) : b.override?.ended ? "ended" : "● yes"])) : h("p.none", null, "none")]);
    },
    changed() {}, key() {}, leave() {},
  };
}
