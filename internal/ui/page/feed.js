// The events of the fleet: one stream for all of a browser's tabs, because HTTP/1.1 has six connections to a host.
//
// Whichever visible tab holds a lock reads the stream, and tells the others. A hidden tab gives the lock away. Where
// there are no locks, as on a page without TLS of another host, every tab goes without events, and polls.

import {stream} from "./api.js";

/** @typedef {import("../types/page").FleetEvent} FleetEvent */
/** @typedef {{event?: FleetEvent, up?: boolean, reset?: boolean, ask?: boolean}} Message */

const retry = 2000;

/** Whether events come now. */
export const feed = {live: false, leads: false};

const able = "locks" in navigator && "BroadcastChannel" in window && "EventSource" in window;

/**
 * Begins to hear events. Reset is called where some may have been missed, and where they begin or cease to come.
 * @param {{event: (e: FleetEvent) => void, reset: () => void}} on
 */
export function follow(on) {
  if (!able) return;
  const channel = new BroadcastChannel("breakerd events");
  /** @type {AbortController?} */
  let waits = null;

  /** @param {Message} m */
  const hear = (m) => {
    if (m.event) on.event(m.event);
    if (m.up !== undefined && m.up !== feed.live) {
      feed.live = m.up;
      on.reset();
    }
    if (m.reset) on.reset();
  };
  channel.onmessage = (e) => {
    if (e.data.ask) {
      if (feed.leads) channel.postMessage({up: feed.live});
    } else hear(e.data);
  };
  /** @param {Message} m */
  const tell = (m) => {
    channel.postMessage(m);
    hear(m);
  };

  // Leads until the signal: reads the stream, and tells.
  const lead = (/** @type {AbortSignal} */ signal) => new Promise((/** @type {(v?: any) => void} */ done) => {
    feed.leads = true;
    /** @type {EventSource} */
    let source;
    /** @type {any} */
    let again;
    const open = () => {
      source = new EventSource(stream());
      source.onopen = () => tell({up: true, reset: true});
      source.onmessage = (e) => tell({event: JSON.parse(e.data)});
      source.addEventListener("reset", () => tell({reset: true}));
      source.onerror = () => {
        tell({up: false});
        if (source.readyState === EventSource.CLOSED) again = setTimeout(open, retry); // it was refused, and stays so
      };
    };
    open();
    signal.addEventListener("abort", () => {
      clearTimeout(again);
      source.close();
      feed.leads = false;
      done();
    });
  });

  const join = () => {
    if (waits) return;
    const stop = (waits = new AbortController());
    channel.postMessage({ask: true});
    navigator.locks.request("breakerd events", {signal: stop.signal}, () => lead(stop.signal)).catch(() => {});
  };
  const leave = () => {
    waits?.abort();
    waits = null;
    feed.live = false;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : join()));
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", () => document.hidden || join());
  if (!document.hidden) join();
}
