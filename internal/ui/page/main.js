// The page: which screen is shown, and what stands above every screen.

import {agent} from "./agent.js";
import {resume, undoLast} from "./actions.js";
import {$, bdi, fill, fillOnce, h, setAttribute, setText} from "./dom.js";
import {audit, events} from "./events.js";
import {follow} from "./feed.js";
import {banners, fleet, freshness, happened, listen, read, screen, staleness, verdict} from "./fleet.js";
import {controls, replicas} from "./fleetwide.js";
import {list} from "./list.js";
import {begin, may, session} from "./session.js";

/** @typedef {import("../types/page").Screen} Screen */

/** @type {Record<string, (params: URLSearchParams, go: (url: string, replace?: boolean) => void) => Screen>} */
const screens = {"": list, agent, events, replicas, controls, audit};
const draws = 100; // ms between an event and what is drawn of it
const quiet = 5000; // ms between two announcements
const base = new URL("./", import.meta.url);

/** @type {Screen | undefined} */
let current;

/**
 * Shows the screen of an address.
 * @param {string} url @param {boolean} [replace]
 */
function go(url, replace) {
  const to = new URL(url, base);
  if (session.readonly) to.searchParams.set("readonly", "1");
  history[replace ? "replaceState" : "pushState"](null, "", to);
  if (!replace) show();
}

function show() {
  const name = location.pathname.slice(base.pathname.length);
  current?.leave();
  current = (screens[name] ?? list)(new URLSearchParams(location.search), go);
  document.title = current.title === "Fleet" ? "breakerd" : `${current.title} · breakerd`;
  fill($("screen"), current.root);
  for (const a of document.querySelectorAll("nav.screens a")) setAttribute(a, "aria-current", a.getAttribute("href") === (name || "./") ? "page" : null);
  window.scrollTo(0, 0);
  screen.read = current.read;
  read();
}

let announced = "", announcedAt = -quiet;

function header() {
  const v = verdict(), stale = staleness();
  if (fleet.summary && !performance.getEntriesByName("verdict").length) performance.mark("verdict");
  setAttribute($("verdict"), "class", v.kind);
  setText($("glyph"), v.glyph);
  setText($("sentence"), v.text);
  setText($("fresh"), freshness());
  setAttribute($("fresh"), "class", stale);
  setAttribute(document.body, "class", stale === "old" ? "old" : null);
  document.title = `${v.glyph} ${document.title.replace(/^\S (?=.)/u, "")}`;
  const found = banners();
  fillOnce($("banners"), [found, may("admin")], () => found.map((b) => h(`div.banner.${b.kind}`, null, h("strong", null, bdi(b.text)), b.detail && " ", b.detail && bdi(b.detail),
    b.resume && may("admin") && h("button", {onclick: resume}, "Resume…"))));
  const said = `${v.kind} ${v.text.replace(/ \([^)]*\)| · (next probe|last trip|unknown).*$/g, "")}`;
  if (said !== announced && performance.now() - announcedAt > quiet && fleet.readMs) {
    announced = said;
    announcedAt = performance.now();
    setText($("announce"), v.text);
  }
}

const keyHelp = [
  ["j k", "next, previous row"], ["Enter", "open the agent"], ["g f, g e, g r, g c, g a", "Fleet, Events, Replicas, Controls, Audit"], ["/", "find"],
  ["o", "hold open"], ["c", "hold closed"], ["h", "let probes through"], ["r", "reset to closed"], ["x", "release the hold"], ["z", "undo the last change"],
  ["p", "pause the rows"], ["Esc", "close, or leave the field"], ["?", "this list"],
];
/** @type {Record<string, string>} */
const places = {f: "./", e: "events", r: "replicas", c: "controls", a: "audit"};
const keysOn = () => localStorage.getItem("keys") !== "off";
let after = "";

function help() {
  const dialog = $("dialog");
  fill(dialog, h("h2", null, "Keys"), h("dl", null, ...keyHelp.flatMap(([keys, what]) => [h("dt", null, h("kbd", null, keys)), h("dd", null, what)])),
    h("label.check", null, h("input", {type: "checkbox", checked: keysOn(), onchange: (/** @type {any} */ e) => localStorage.setItem("keys", e.target.checked ? "on" : "off")}), " Keys of one letter do this"),
    h("div.buttons", null, h("button.main", {onclick: () => dialog.close()}, "Close")));
  dialog.showModal();
}

/** @param {KeyboardEvent} e */
function pressed(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || $("dialog").open || $("sign-in").open) return;
  const at = /** @type {HTMLElement} */ (e.target);
  if (at.matches("input, select, textarea")) {
    if (e.key === "Escape") at.blur();
    return;
  }
  if (!keysOn() && e.key !== "?") return;
  const first = after;
  after = "";
  if (first === "g" && places[e.key]) go(places[e.key]);
  else if (e.key === "g") after = "g";
  else if (e.key === "?") help();
  else if (e.key === "z") undoLast();
  else if (e.key === "Escape") at.blur();
  else if (e.key === "Enter" && at.matches("a, button, summary")) return;
  else if ("jkohcrxp/Enter".includes(e.key)) current?.key(e.key);
  else return;
  e.preventDefault();
}

document.addEventListener("click", (e) => {
  const a = /** @type {HTMLElement} */ (e.target).closest?.("a[data-go], nav.screens a, table.fleet a");
  const href = a?.getAttribute("href");
  if (!href || e.ctrlKey || e.metaKey || e.shiftKey || e.button !== 0) return;
  e.preventDefault();
  go(href);
});
document.addEventListener("keydown", pressed);
window.addEventListener("popstate", show);
$("keys").addEventListener("click", help);

/** @type {any} */
let drawing = 0;
listen((why, e) => {
  current?.changed(why, e);
  if (why === "read" && !fleet.problem && !session.who) session.learn(); // breakerd was away when the page was loaded
  if (why !== "event") return header();
  if (drawing) return;
  drawing = setTimeout(() => { // however many events come
    drawing = 0;
    header();
    current?.changed("time");
  }, draws);
});
setInterval(() => document.hidden || (setText($("fresh"), freshness()), setAttribute($("fresh"), "class", staleness())), 500);

show();
begin(() => { // what he may do is drawn as soon as it is known
  header();
  current?.changed("read");
  if (current?.title !== "Fleet") read();
});
follow({event: happened, reset: () => void read()});
