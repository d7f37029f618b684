// Who looks, and what he may do.

import {get, hooks, write} from "./api.js";
import {$, fill, h} from "./dom.js";

/** @typedef {import("../types/page").Who} Who */

const ranks = {read: 1, report: 1, operate: 2, admin: 3};

export const session = {
  who: /** @type {Who | undefined} */ (undefined),
  learn: () => {}, // asks again
  readonly: new URLSearchParams(location.search).get("readonly") === "1",
};

/**
 * Whether who looks may do what needs this role. What he may not is not drawn.
 * @param {"operate" | "admin"} role
 */
export const may = (role) => !session.readonly && !!session.who && ranks[session.who.role] >= ranks[role];

/**
 * A pattern of agents' names, as the server matches it.
 * @param {string} pattern
 */
function matcher(pattern) {
  const text = pattern.replace(/\[[^\]]*\]|\\.|[\s\S]/g, (part) =>
    part === "*" ? "[^/]*" : part === "?" ? "[^/]" : part.length > 1 && part[0] === "[" ? part : part.replace(/^\\?([\s\S])$/, "$1").replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${text}$`);
}

/**
 * Whether he may name this agent in a change.
 * @param {string} agent
 */
export const mayName = (agent) => may("operate") && (!session.who?.agents || session.who.agents.some((p) => matcher(p).test(agent)));

/** How who looks is named in the audit where nobody is asked who he is. */
export const actor = {
  get: () => localStorage.getItem("actor") ?? "",
  /** @param {string} name */
  set: (name) => localStorage.setItem("actor", name),
  /** @returns {Record<string, string>} */
  headers: () => (session.who?.name || !actor.get() ? {} : {"X-Actor": actor.get()}),
};

/**
 * Asks who looks. If nobody knows him, he can sign in with a token.
 * @param {() => void} done
 */
export function begin(done) {
  let asked = false;
  hooks.unauthenticated = () => {
    if (!asked) signIn();
    asked = true;
  };
  const learnWho = async () => {
    session.who = await get("/v1/whoami");
    showWho();
    done();
  };
  let learning = false;
  session.learn = () => {
    if (learning) return;
    learning = true;
    learnWho().catch(() => {}).finally(() => (learning = false));
  };
  const signIn = () => {
    const dialog = $("sign-in"), error = h("p.error", {role: "alert"});
    const token = h("input", {type: "password", id: "token", autocomplete: "current-password", required: true});
    const enter = async (/** @type {Event} */ e) => {
      e.preventDefault();
      try {
        await write("POST /v1/session", {headers: {Authorization: `Bearer ${token.value}`}});
        hooks.signIns++;
        asked = false;
        dialog.close();
        fill(dialog);
        await learnWho();
      } catch (err) {
        fill(error, /** @type {Error} */ (err).message);
      }
    };
    fill(dialog, h("form", {onsubmit: enter},
      h("h2", null, "Sign in"), h("p", null, "This breakerd asks who you are. Your token is exchanged for a cookie of at most 12 hours, and is not kept."),
      h("label", {for: "token"}, "Token"), token, error, h("div.buttons", null, h("button.main", null, "Sign in"))));
    dialog.addEventListener("cancel", (/** @type {Event} */ e) => e.preventDefault());
    if (!dialog.open) dialog.showModal();
    token.focus();
  };
  session.learn();
}

function showWho() {
  const who = session.who;
  const leave = async () => {
    await write("DELETE /v1/session");
    location.reload();
  };
  fill($("who"), who?.name ? h("bdi", null, who.name) : "", who?.name ? ` (${who.role})` : "", session.readonly ? " read only" : "",
    who?.by === "session" && h("button.link", {onclick: leave}, "Sign out"));
}
