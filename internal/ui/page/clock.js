// The fleet's time. This machine's clock may be wrong by hours: only how fast it goes is used.

/** @type {{shift: number, at: number}[]} */
let seen = [];
const kept = 60_000; // ms for which a reading counts: the server's clock may be set, too

/**
 * Learns from an answer that it was the fleet's time so many ms since 1970 when it was made.
 * @param {number} ms
 */
export function learn(ms) {
  const at = performance.now();
  seen = [...seen.filter((s) => at - s.at < kept), {shift: ms - at, at}];
}

/** The fleet's time, ms since 1970. An answer is always late: the least late of the last ones is believed. */
export function now() {
  if (!seen.length) return Date.now();
  return performance.now() + Math.max(...seen.map((s) => s.shift));
}
