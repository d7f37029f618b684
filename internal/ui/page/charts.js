// Small drawings. Each says in words what it shows.

import {h, setAttribute} from "./dom.js";
import {count} from "./words.js";

/** @typedef {import("../types/page").Series} Series */

const width = 96, height = 20;

/** A sparkline's parts, to be drawn anew: calls, and over them failures. */
export function sparkline() {
  const calls = h("path.calls"), failures = h("path.failures");
  const svg = h("svg.spark", {viewBox: `0 0 ${width} ${height}`, role: "img"}, calls, failures);
  return {svg, calls, failures};
}

/**
 * Draws calls and failures over a series' time.
 * @param {{svg: Element, calls: Element, failures: Element}} to @param {Series | undefined} series @param {number} [w] @param {number} [high]
 */
export function drawSeries(to, series, w = width, high = height) {
  let calls = "", failures = "", all = 0, failed = 0;
  if (series && series.points.length) {
    const step = w / series.slots, top = Math.max(1, ...series.points.map((p) => p.calls));
    const tall = (/** @type {number} */ n) => Math.max(n > 0 ? 1 : 0, (n / top) * (high - 1)).toFixed(1);
    for (const p of series.points) {
      const x = `M${(p.slot * step + step / 2).toFixed(1)} ${high}v-`;
      calls += x + tall(p.calls);
      if (p.failures) failures += x + tall(p.failures);
      all += p.calls;
      failed += p.failures;
    }
    setAttribute(to.calls, "stroke-width", Math.max(1, step * 0.8).toFixed(1));
    setAttribute(to.failures, "stroke-width", Math.max(1, step * 0.8).toFixed(1));
  }
  setAttribute(to.calls, "d", calls || null);
  setAttribute(to.failures, "d", failures || null);
  const minutes = series ? Math.round((series.slots * series.slot_seconds) / 60) : 0;
  setAttribute(to.svg, "aria-label", all ? `${count(failed)} of ${count(all)} calls failed in ${minutes || 1} min` : "no calls");
}

/**
 * A series, large.
 * @param {Series | undefined} series
 */
export function chart(series) {
  const w = 480, high = 80;
  const parts = {calls: h("path.calls"), failures: h("path.failures"), svg: h("svg.chart", {viewBox: `0 0 ${w} ${high}`, preserveAspectRatio: "none", role: "img"})};
  parts.svg.append(parts.calls, parts.failures);
  drawSeries(parts, series, w, high);
  return parts.svg;
}

/**
 * The three states, and which of them it is in.
 * @param {string} state @param {string} here what stands below the one
 */
export function diagram(state, here) {
  /** @param {string} id @param {string} word @param {number} x */
  const box = (id, word, x) => h("g", {class: id === state ? "here" : null},
    h("rect", {x, y: 10, width: 130, height: 44, rx: 8}), h("text", {x: x + 65, y: 37, "text-anchor": "middle"}, word),
    id === state && h("text", {class: "mark", x: x + 65, y: 72, "text-anchor": "middle"}, "▲ you are here"));
  /** @param {string} d @param {string} word @param {number} x @param {number} y */
  const arrow = (d, word, x, y) => h("g.arrow", null, h("path", {d}), h("text", {x, y, "text-anchor": "middle"}, word));
  return h("svg.diagram", {viewBox: "0 0 590 118", role: "img", "aria-label": `closed, open and half-open: it is ${state.toLowerCase().replace("_", "-")}. ${here}`},
    arrow("M140 26h88m-7-4 7 4-7 4", "fails", 184, 20), arrow("M370 26h88m-7-4 7 4-7 4", "waits", 414, 20),
    arrow("M458 44h-88m7-4-7 4 7 4", "fails", 414, 60), arrow("M515 54v48h-440v-46m-4 7 4-7 4 7", "probes succeed", 295, 98),
    box("CLOSED", "CLOSED", 10), box("OPEN", "OPEN", 230), box("HALF_OPEN", "HALF-OPEN", 450));
}
