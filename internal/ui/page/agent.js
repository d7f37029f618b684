// The screen of one agent.

import {Problem, get, getTagged, write} from "./api.js";
import {ask, change, input, said, verbOfKey, verbs} from "./actions.js";
import {chart, diagram} from "./charts.js";
import {now} from "./clock.js";
import {bdi, fill, fillOnce, h, setText} from "./dom.js";
import {actor, mayName} from "./session.js";
import {cause, clock, kindOf, kinds, ms, next, plural, probes, span, toSecond} from "./words.js";
import {eventRows} from "./events.js";

/** @typedef {import("../types/page").Detail} Detail */
/** @typedef {import("../types/page").Override} Override */
/** @typedef {import("../types/page").Screen} Screen */
/** @typedef {import("./actions.js").Verb} Verb */

/** @param {URLSearchParams} params @returns {Screen} */
export function agent(params) {
  const name = params.get("name") ?? "";
  const part = (/** @type {string} */ id, /** @type {string} */ title) => {
    const inside = h("div");
    return {root: h(`section.part.${id}`, {"aria-labelledby": `h-${id}`}, h("h2", {id: `h-${id}`}, title), inside), inside};
  };
  const head = h("div"), buttons = h("div.buttons"), when = h("p.when");
  const parts = {
    state: part("state", "State"), why: part("why", "Why"), calls: part("calls", "Calls"), events: part("events", "Timeline"), policy: part("policy", "Policy"),
    leases: part("leases", "Probes under way"), reporters: part("reporters", "Reporters"), quarantine: part("quarantine", "Failed and refused calls"),
  };
  const root = h("section.agent", null, head, when, buttons, h("div.grid", null, ...Object.values(parts).map((p) => p.root)));
  /** @type {Detail | undefined} */
  let detail;
  let reads = 0;
  /** @type {Record<string, string> | null} values of the editor; null: it is closed */
  let edited = null;
  let fetched = {etag: "", override: /** @type {Override | undefined} */ (undefined)};

  async function read() {
    const more = reads++ % 5 === 0;
    try {
      const [d, why, events, quarantine] = await Promise.all([
        get("/v1/admin/circuit_breakers/{agent}", name), get("/v1/admin/circuit_breakers/{agent}/explain", name),
        get("/v1/admin/circuit_breakers/{agent}/events", name), more ? get("/v1/admin/quarantine", undefined, {agent_id: name, limit: 20}) : undefined,
      ]);
      detail = d;
      show(d);
      fillOnce(parts.why.inside, why, () => [["because", "Because"], ["not_tripping", "Does not open, because"], ["next", "Next"]].map(([key, title]) => {
        /** @type {{text: string, clause: string}[]} */
        const clauses = why[/** @type {"because"} */ (key)];
        return clauses.length > 0 && h("div", null, h("h3", null, title), h("ul", null, ...clauses.map((c) => h("li", null, bdi(c.text), " ", h("small", null, c.clause)))));
      }));
      fillOnce(parts.events.inside, events.events, () => [eventRows(events.events.map((e) => ({...e, id: "", agent_id: null})), false)]);
      if (quarantine) {
        fillOnce(parts.quarantine.inside, quarantine.items, () => [quarantine.items.length ? h("ol", null, ...quarantine.items.map((q) => h("li", null, h("code", null, JSON.stringify(q))))) : h("p.none", null, "none")]);
      }
    } catch (err) {
      if (!(err instanceof Problem) || err.status !== 404) throw err;
      detail = undefined;
      const {message} = err;
      fillOnce(head, message, () => [h("h1", null, bdi(name)), h("p.error", {role: "alert"}, message)]);
    }
  }

  /** @param {Detail} d */
  function show(d) {
    const kind = kindOf(d);
    fillOnce(head, [kind, d.degraded, cause(d)], () => [h(`h1.${kind}`, null, h("span.glyph", {"aria-hidden": true}, kinds[kind].glyph), ` ${kinds[kind].word} `, bdi(name)),
      h("p", null, bdi(cause(d)), d.degraded && " (from this replica's memory, because Redis is down)")]);
    /** @type {Verb[]} */
    const can = mayName(name) ? ["open", "close", "half_open", "reset", ...(d.hold ? [/** @type {Verb} */ ("release")] : [])] : [];
    fillOnce(buttons, can, () => can.map((v) => h("button", {id: `do-${v}`, onclick: () => change(v, name, detail)}, verbs[v].button)));
    const here = next(d, now());
    fillOnce(parts.state.inside, [d.state, d.hold, d.probes], () => [diagram(d.state, here), d.probes && h("p", null, `Probes: ${probes(d)} succeeded, ${d.probes.failed} failed, ${d.probes.live} under way, ${d.probes.max} at most.`),
      d.hold && h("p", null, `Held ${d.hold.kind.toLowerCase()}${d.hold.protected ? ", protected" : ""}: `, bdi(d.reason ?? ""))]);
    fillOnce(parts.calls.inside, [d.series, d.latency], () => [chart(d.series), h("p", null,
      d.series ? `${Math.round((d.series.slots * d.series.slot_seconds) / 60) || 1} min. ` : "",
      `Since it came into being: ${plural(d.totals.successes, "success", "successes")}, ${plural(d.totals.failures, "failure")}, ${plural(d.totals.transitions, "transition")}.`,
      d.latency ? ` Half of its calls take up to ${Math.round(d.latency.p50_ms)} ms, 99 % up to ${Math.round(d.latency.p99_ms)} ms.` : "")]);
    fillOnce(parts.leases.inside, d.leases, () => [d.leases.length ? h("ul", null, ...d.leases.map((l) => h("li", null, h("code", null, l.permit), ` since ${toSecond(ms(l.since))}, until ${toSecond(ms(l.until))}`))) : h("p.none", null, "none")]);
    const reporters = Object.entries(d.reporters ?? {});
    fillOnce(parts.reporters.inside, reporters, () => [reporters.length ? h("ul", null, ...reporters.map(([who, at]) => h("li", null, bdi(who), ` failed last at ${toSecond(ms(at))}`))) : h("p.none", null, "nobody has reported a failure, or minimum_reporters is 1")]);
    if (!edited) fillOnce(parts.policy.inside, [d.policy, d.policy_problem, can.length > 0], () => policy(d));
    times();
  }

  function times() {
    if (!detail) return;
    const at = ms(detail.hold?.since ?? detail.opened_at), t = now();
    setText(when, [at && `since ${clock(at, t)} (${span(t - at)})`, next(detail, t)].filter(Boolean).join(" · "));
  }

  /** @param {Detail} d */
  function policy(d) {
    return [
      d.policy_problem && h("p.error", null, "The override is not in force: ", bdi(d.policy_problem)),
      h("table", null, h("thead", null, h("tr", null, ...["Name", "Value", "From"].map((c) => h("th", {scope: "col"}, c)))), h("tbody", null,
        ...Object.entries(d.policy).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, v]) => h("tr", {class: v.origin === "override" ? "changed" : null},
          h("th", {scope: "row"}, key), h("td", null, bdi(String(v.value))), h("td", null, v.origin))))),
      mayName(name) && h("div.buttons", null, h("button", {id: "edit", onclick: edit}, "Edit override…")),
    ];
  }

  async function edit() {
    try {
      const {answer, etag} = await getTagged("/v1/admin/circuit_breakers/{agent}/config", name);
      fetched = {etag, override: answer};
    } catch (err) {
      return said([/** @type {Error} */ (err).message]);
    }
    edited = {};
    for (const [key, value] of Object.entries(fetched.override ?? {})) if (!key.startsWith("_")) edited[key] = String(value);
    delete parts.policy.inside.dataset.key;
    const error = h("p.error", {role: "alert"}), differs = h("ul.diff", {"aria-live": "polite"});
    const fields = Object.entries(detail?.policy ?? {}).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, v]) => h("tr", null, h("th", {scope: "row"}, h("label", {for: `f-${key}`}, key)),
      h("td", null, h("input", {
        id: `f-${key}`, value: edited?.[key] ?? "", placeholder: String(v.value), autocomplete: "off",
        oninput: (/** @type {any} */ e) => {
          if (edited) edited[key] = e.target.value.trim();
          fill(differs, ...diff().map(([k, from, to]) => h("li", null, h("b", null, k), ": ", bdi(from), " → ", bdi(to))));
        },
      })), h("td", null, v.origin)));
    const dry = async () => {
      try {
        await put(wanted(), {dry_run: "1"});
        fill(error, "It would be taken.");
      } catch (err) {
        fill(error, /** @type {Error} */ (err).message);
      }
    };
    fill(parts.policy.inside, h("p", null, "A value overrides; an empty field leaves the value of the layer below, which stands in grey."), h("table.editor", null, h("tbody", null, ...fields)), differs, error,
      h("div.buttons", null, h("button", {onclick: close}, "Cancel"), h("button", {onclick: dry}, "Dry run"),
        fetched.override && h("button", {onclick: remove}, "Remove override…"), h("button.main", {onclick: save}, "Save…")));
    parts.policy.inside.querySelector("input")?.focus();
  }

  function close() {
    edited = null;
    if (detail) show(detail);
  }

  /**
   * The fields that change, what they were and what they will be.
   * @returns {[string, string, string][]}
   */
  function diff() {
    const was = /** @type {Record<string, any>} */ (fetched.override ?? {});
    return Object.entries(edited ?? {}).filter(([k, v]) => v !== (k in was ? String(was[k]) : ""))
      .map(([k, v]) => [k, k in was ? String(was[k]) : `${String(detail?.policy[k]?.value)} (${detail?.policy[k]?.origin})`, v || "the layer below"]);
  }

  /** @returns {Override} */
  function wanted() {
    /** @type {Record<string, any>} */
    const out = {};
    for (const [k, v] of Object.entries(edited ?? {})) {
      if (v !== "") out[k] = v === "true" || v === "false" ? v === "true" : Number.isNaN(Number(v)) ? v : Number(v);
    }
    return out;
  }

  /** @param {Override} body @param {Record<string, string>} [query] */
  const put = (body, query) => write("PUT /v1/admin/circuit_breakers/{agent}/config", {
    agent: name, body, query, headers: {...actor.headers(), ...(fetched.etag ? {"If-Match": fetched.etag} : {"If-None-Match": "*"})},
  });

  function save() {
    const d = diff();
    if (!d.length) return said(["Nothing differs."]);
    ask({
      title: "Change the override", says: [h("p", null, h("strong", null, bdi(name))), h("ul.diff", null, ...d.map(([k, from, to]) => h("li", null, h("b", null, k), ": ", bdi(from), " → ", bdi(to))))],
      fields: [input("hours", "Ends after so many hours (empty: never)", {type: "number", min: 1})], button: "Save",
      go: async (v) => {
        const until = v.hours ? {_until: new Date(now() + Number(v.hours) * 3_600_000).toISOString().replace(/\.\d+/, "")} : {};
        await put({...wanted(), _reason: v.reason, ...until});
        changed("changed");
      },
    });
  }

  function remove() {
    ask({
      title: "Remove the override", says: [h("p", null, "Registry, environment and defaults count again for ", bdi(name), ".")], button: "Remove",
      go: async () => {
        await write("DELETE /v1/admin/circuit_breakers/{agent}/config", {agent: name, headers: {...actor.headers(), "If-Match": fetched.etag}});
        changed("removed");
      },
    });
  }

  /** @param {string} what */
  function changed(what) {
    const before = fetched.override;
    close();
    read();
    said([`✓ The override of `, bdi(name), ` is ${what}.`], {
      text: "Undo: put it back", run: async () => {
        const {etag} = await getTagged("/v1/admin/circuit_breakers/{agent}/config", name);
        fetched = {etag, override: undefined};
        if (before) {
          const {_by, _at, _ended, ...body} = /** @type {any} */ (before);
          await put(body);
        } else await write("DELETE /v1/admin/circuit_breakers/{agent}/config", {agent: name, headers: {...actor.headers(), "If-Match": etag}});
        said(["✓ Put back."]);
        read();
      },
    });
  }

  return {
    title: name, root, read,
    changed(why, e) {
      if (why === "time") times();
      if (e && e.agent_id === name) read().catch(() => {});
    },
    key(k) {
      const verb = verbOfKey[k];
      if (verb && mayName(name)) change(verb, name, detail);
    },
    leave() {},
  };
}
