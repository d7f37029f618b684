// The screen Fleet: counts as filters, and the breakers that they find, the worst first.

import {get} from "./api.js";
import {change, changeMany, select, verbOfKey} from "./actions.js";
import {drawSeries, sparkline} from "./charts.js";
import {now} from "./clock.js";
import {$, bdi, fill, fillOnce, h, setAttribute, setText} from "./dom.js";
import {fleet} from "./fleet.js";
import {may, mayName} from "./session.js";
import {cause, clock, count, kindOf, kinds, ms, next, probes, span} from "./words.js";

/** @typedef {import("../types/page").Row} Row */
/** @typedef {import("../types/page").Screen} Screen */
/** @typedef {import("../types/page").FleetEvent} FleetEvent */

const spare = 8; // rows above and below those that are seen
const between = 150; // ms between what asks for rows that come into sight, and their reading
const still = 20_000; // ms for which a pointer that does not move keeps rows in their place

/**
 * What each count shows, and how the API calls it.
 * @type {Record<string, {word: string, query: Record<string, string>}>}
 */
const shows = {
  open: {word: "open", query: {state: "OPEN"}}, half: {word: "half-open", query: {state: "HALF_OPEN"}},
  held: {word: "held", query: {hold: "any"}}, ramping: {word: "ramping", query: {ramping: "true"}},
  observing: {word: "observing", query: {mode: "observe"}}, overridden: {word: "overridden", query: {override: "any"}},
  closed: {word: "closed", query: {state: "CLOSED"}},
};

const sorts = [["worst", "worst first"], ["opened_at", "open for longest"], ["timeout_until", "probed next"], ["failure_rate", "failure rate"], ["agent_id", "name"]];
const columns = ["State", "Agent", "Cause", "Since", "Next", "Probes", "Calls", "Contact"];

/** @param {URLSearchParams} params @param {(url: string, replace?: boolean) => void} go @returns {Screen} */
export function list(params, go) {
  const query = {
    show: params.get("show") ?? "", q: params.get("q") ?? "", label: params.get("label") ?? "", sort: params.get("sort") ?? "worst",
  };
  /**
   * The rows that were read, by their place.
   * @type {Map<number, Row>}
   */
  let rows = new Map();
  /** @type {Map<number, HTMLTableRowElement>} */
  const shown = new Map();
  let total = 0, selected = "", first = 0, last = -1, rowHeight = 36, paused = false, pointed = 0, asking = false, missed = false, listTop = 0, nowMs = 0;

  // Each row has its place by itself, so that a frame of scrolling lays out the new ones only. The roles say what the
  // elements are, which their display does not.
  const body = h("tbody", {
    role: "rowgroup",
    onpointermove: () => (pointed = performance.now()), onpointerleave: () => (pointed = 0),
    onfocusin: (/** @type {any} */ e) => {
      const name = e.target.closest("tr")?.dataset.agent;
      if (name) choose(name);
    },
  });
  const table = h("table.fleet", {role: "table", "aria-label": "Circuit breakers"}, h("thead", {role: "rowgroup"},
    h("tr", {role: "row", "aria-rowindex": 1}, ...columns.map((c) => h("th", {role: "columnheader", scope: "col", class: c.toLowerCase()}, c)))), body);
  const counts = h("nav.counts", {"aria-label": "Show"});
  const search = h("input", {id: "q", type: "search", placeholder: "Find an agent", "aria-label": "Find an agent", value: query.q, oninput: () => soon()});
  const labels = select("label", "Label", [["", "any label"]]);
  const sort = select("sort", "Order", sorts, query.sort);
  labels.addEventListener("change", () => again());
  sort.addEventListener("change", () => again());
  const note = h("p.note", {role: "status"}), many = h("span");
  const root = h("section", null, counts, h("div.tools", null, search, labels, sort, many), note, table);

  /** @type {any} */
  let typing;
  const soon = () => {
    clearTimeout(typing);
    typing = setTimeout(again, 200);
  };
  /**
   * The address of this list with other filters.
   * @param {Partial<typeof query>} other
   */
  const address = (other) => {
    const p = new URLSearchParams();
    for (const [name, value] of Object.entries({...query, ...other})) if (value && !(name === "sort" && value === "worst")) p.set(name, value);
    return "./" + (String(p) && "?" + p);
  };
  const again = () => {
    Object.assign(query, {q: search.value.trim(), label: $("label").value, sort: $("sort").value});
    go(address({}), true);
    rows = new Map();
    window.scrollTo(0, 0);
    readSoon();
  };

  const filters = () => ({...shows[query.show]?.query, q: query.q, label: query.label});

  /** Which places the window shows. */
  const seen = () => {
    const from = Math.max(0, Math.floor((window.scrollY - listTop) / rowHeight) - spare);
    return [from, Math.min(total - 1, from + Math.ceil(window.innerHeight / rowHeight) + 2 * spare)];
  };

  /** @type {any} */
  let waiting = 0;
  /** Reads besides the page's own turns, which say what went wrong: once for all who ask within a while. */
  const readSoon = () => {
    if (waiting) return;
    waiting = setTimeout(() => {
      waiting = 0;
      read().catch(() => {});
    }, between);
  };

  async function read() {
    if (paused) return;
    if (asking) {
      missed = true;
      return;
    }
    asking = true;
    missed = false;
    try {
      const [from, to] = total ? seen() : [0, 60];
      const page = await get("/v1/admin/circuit_breakers", undefined, {
        ...filters(), sort: query.sort, offset: from, limit: Math.max(1, Math.min(200, to - from + 1)), include: ["series", "window", "profile", "override"],
      });
      const read = new Map(page.circuit_breakers.map((b, i) => [from + i, b]));
      const keep = pointed && performance.now() - pointed < still && page.total === total;
      if (keep) keepPlaces(read);
      else rows = read;
      total = page.total;
      nowMs = page.now_ms;
      setAttribute(table, "aria-rowcount", total + 1);
      place(true);
      setText(note, paused ? "Paused: p goes on." : keep ? "Rows keep their places under the pointer." : total ? "" : "No agent is found.");
    } finally {
      asking = false;
    }
    const [from, to] = seen(); // scrolled on meanwhile?
    if (missed || (total && (!rows.has(from) || !rows.has(to)))) readSoon();
  }

  /**
   * Shows what was read anew in the places where the rows are.
   * @param {Map<number, Row>} read
   */
  function keepPlaces(read) {
    const byName = new Map([...read.values()].map((b) => [b.agent_id, b]));
    for (const [i, b] of read) {
      const was = rows.get(i);
      rows.set(i, was ? byName.get(was.agent_id) ?? was : b);
    }
  }

  /**
   * Has rows where the window looks, and binds those that are new there, or all.
   * @param {boolean} all
   * @returns {void}
   */
  function place(all) {
    const focused = all && document.activeElement?.closest("tr")?.dataset.agent;
    [first, last] = seen();
    const free = [];
    for (const [i, tr] of shown) {
      if (i < first || i > last) {
        shown.delete(i);
        free.push(tr);
      }
    }
    for (let i = first; i <= last; i++) {
      const had = shown.get(i), tr = had ?? free.pop() ?? makeRow();
      if (had && !all) continue;
      shown.set(i, tr);
      bind(tr, i);
      const at = `translateY(${i * rowHeight}px)`;
      if (tr.style.transform !== at) tr.style.transform = at;
      const next = shown.get(i + 1); // the order of the elements is that of the rows
      if (!had) body.insertBefore(tr, next?.parentNode === body ? next : null);
    }
    free.forEach((tr) => tr.remove());
    body.style.height = `${total * rowHeight}px`;
    if (focused) rowOf(focused)?.querySelector("a")?.focus({preventScroll: true});
    if (!all) return;
    const tall = parseFloat(getComputedStyle(table).getPropertyValue("--row"));
    if (tall !== rowHeight) {
      rowHeight = tall;
      return place(true);
    }
    listTop = body.getBoundingClientRect().top + window.scrollY;
  }

  /** @param {string} agent @returns {any} */
  const rowOf = (agent) => [...shown.values()].find((tr) => tr.dataset.agent === agent);

  function makeRow() {
    const spark = sparkline();
    const cells = columns.map((c) => h(c === "Agent" ? "th" : "td", {role: c === "Agent" ? "rowheader" : "cell", scope: c === "Agent" ? "row" : null, class: c.toLowerCase()}));
    const link = h("a"), glyph = h("span.glyph", {"aria-hidden": true}), word = h("span"), tags = h("small");
    cells[0].append(glyph, " ", word, " ", tags);
    cells[1].append(link);
    cells[6].append(spark.svg);
    const tr = h("tr", {role: "row"}, ...cells);
    return Object.assign(tr, {parts: {spark, cells, link, glyph, word, tags}});
  }

  /**
   * Shows a row in a place.
   * @param {any} tr @param {number} i
   */
  function bind(tr, i) {
    const b = rows.get(i), p = tr.parts;
    setAttribute(tr, "aria-rowindex", i + 2);
    setAttribute(tr, "data-agent", b?.agent_id);
    setAttribute(tr, "aria-selected", b && b.agent_id === selected ? "true" : null);
    const kind = b ? kindOf(b) : "none";
    tr.className = kind;
    setText(p.glyph, kinds[kind]?.glyph ?? "");
    setText(p.word, kinds[kind]?.word ?? "…");
    setText(p.tags, b ? [b.mode !== "enforce" && b.mode, b.override && (b.override.problem ? "override not in force" : "override"), b.degraded && "from memory"].filter(Boolean).join(", ") : "");
    setAttribute(p.link, "href", b ? agentURL(b.agent_id) : null);
    setText(p.link, b?.agent_id ?? "");
    setText(p.cells[2], b ? cause(b) : "");
    setAttribute(p.cells[2], "title", b?.reason);
    setText(p.cells[5], b ? probes(b) : "");
    setText(p.cells[7], b?.profile?.contact ?? "");
    drawSeries(p.spark, b?.series);
    times(tr, b);
  }

  /** @param {any} tr @param {Row | undefined} b */
  function times(tr, b) {
    const t = now(), at = b ? ms(b.hold?.since ?? b.opened_at) : 0;
    setText(tr.parts.cells[3], at ? `${clock(at, t)} (${span(t - at)})` : "");
    setText(tr.parts.cells[4], b ? next(b, t) : "");
  }

  function showCounts() {
    const s = fleet.summary;
    if (!s) return;
    /** @type {Record<string, number>} */
    const n = {
      open: s.states.OPEN, half: s.states.HALF_OPEN, held: s.holds.open + s.holds.closed, ramping: s.ramping,
      observing: s.modes.observe, overridden: s.overrides, closed: s.states.CLOSED,
    };
    if (!counts.firstChild) {
      fill(counts, ...["", ...Object.keys(shows)].map((show) => h("a", {href: address({show}), "data-show": show, "data-go": true, "aria-current": show === query.show ? "true" : null},
        h("span.glyph", {"aria-hidden": true}, kinds[show] ? kinds[show].glyph + " " : ""), h("b"), ` ${shows[show]?.word ?? "all"}`)));
    }
    for (const a of counts.children) {
      setText(a.querySelector("b"), count(n[a.dataset.show] ?? s.agents));
      setAttribute(a, "class", (n[a.dataset.show] ?? 1) > 0 ? `some ${a.dataset.show}` : "none");
    }
    const want = ["", ...s.labels.map((l) => `${l.name}=${l.value}`)], has = $("label");
    if (query.label && !want.includes(query.label)) want.push(query.label);
    if (has && has.options.length !== want.length) {
      fill(has, ...want.map((l) => h("option", {value: l, selected: l === query.label}, l || "any label")));
    }
    const acts = may("operate") && (query.show || query.q || query.label) && total > 0;
    fillOnce(many, acts && total, () => [acts && h("button", {id: "many", onclick: act}, `Change these ${count(total)}…`)]);
  }

  const act = () => {
    /** @type {any} */
    const selector = {};
    for (const [name, value] of Object.entries(filters())) if (value) selector[name] = ["state", "hold", "label", "mode"].includes(name) ? [value] : name === "ramping" ? true : value;
    changeMany(selector, [shows[query.show]?.word, query.q && `named ${query.q}`, query.label].filter(Boolean).join(", "));
  };

  /** @param {string} agent */
  function choose(agent) {
    selected = agent;
    for (const tr of shown.values()) setAttribute(tr, "aria-selected", tr.dataset.agent === agent ? "true" : null);
  }

  /**
   * Moves the selection.
   * @param {number} by
   */
  function move(by) {
    const places = [...rows].filter(([, b]) => b.agent_id === selected).map(([i]) => i);
    const to = Math.max(0, Math.min(total - 1, places.length ? places[0] + by : first ? first + spare : 0)), b = rows.get(to);
    if (!b) return;
    choose(b.agent_id);
    const top = body.getBoundingClientRect().top + to * rowHeight, head = $("top").offsetHeight;
    if (top < head + rowHeight) window.scrollBy(0, top - head - rowHeight);
    else if (top + 2 * rowHeight > window.innerHeight) window.scrollBy(0, top + 2 * rowHeight - window.innerHeight);
    place(false);
    rowOf(b.agent_id)?.querySelector("a")?.focus({preventScroll: true});
  }

  const chosen = () => [...rows.values()].find((b) => b.agent_id === selected);
  const onScroll = () => {
    if (!total) return;
    const [from, to] = seen();
    if (from !== first || to !== last) {
      place(false);
      if (!rows.has(from) || !rows.has(to)) readSoon();
    }
  };
  let frame = 0;
  const scrolled = () => {
    if (frame) return;
    frame = requestAnimationFrame(() => {
      frame = 0;
      onScroll();
    });
  };
  window.addEventListener("scroll", scrolled, {passive: true});
  window.addEventListener("resize", scrolled);

  return {
    title: "Fleet", root, read,
    changed(why, e) {
      if (why !== "event") showCounts();
      if (why === "time") for (const [i, tr] of shown) times(tr, rows.get(i));
      if (e) patch(e);
    },
    key(k) {
      const b = chosen();
      switch (k) {
        case "j": return move(1);
        case "k": return move(-1);
        case "Enter": return b && go(agentURL(b.agent_id));
        case "/": return search.focus();
        case "p":
          paused = !paused;
          setText(note, paused ? "Paused: p goes on." : "");
          return readSoon();
      }
      const verb = verbOfKey[k];
      if (verb && b && mayName(b.agent_id)) change(verb, b.agent_id, b);
    },
    leave() {
      window.removeEventListener("scroll", scrolled);
      window.removeEventListener("resize", scrolled);
    },
  };

  /**
   * Lays an event over a row that is shown.
   * @param {FleetEvent} e
   */
  function patch(e) {
    if (paused || !e.to || parseInt(e.id) <= nowMs) return;
    for (const [i, b] of rows) {
      if (b.agent_id !== e.agent_id) continue;
      const held = e.event === "manual_open" || e.event === "manual_close";
      rows.set(i, {
        ...b, state: /** @type {Row["state"]} */ (e.to), reason: e.reason || b.reason, opened_at: e.to === "OPEN" ? e.at : e.to === "CLOSED" ? null : b.opened_at,
        failure_count: e.failures, failure_rate: e.calls ? e.failures / e.calls : 0, consecutive_failures: e.consecutive_failures,
        timeout_until: null, probes: undefined, ramp: undefined,
        hold: held ? {kind: e.event === "manual_open" ? "OPEN" : "CLOSED", since: e.at, until: null, actor: e.actor, protected: false} : undefined,
      });
      const tr = shown.get(i);
      if (tr) bind(tr, i);
      return;
    }
  }
}


/**
 * The address of an agent's screen.
 * @param {string} agent
 */
export const agentURL = (agent) => `agent?name=${encodeURIComponent(agent)}`;

/**
 * A link to an agent.
 * @param {string} agent
 */
export const agentLink = (agent) => h("a", {href: agentURL(agent), "data-go": true}, bdi(agent));

