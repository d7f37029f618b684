// Elements of the page. Text is set as text alone, never as markup.

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | null | undefined | ((e: any) => void)>} Props */

const svgTags = new Set(["svg", "path", "g", "text", "rect", "line", "circle"]);

/**
 * Makes an element: h("td.number", {title: "calls"}, 5). A prop of on… listens; null and false leave a prop out.
 * @param {string} kind tag, and classes after dots
 * @param {Props?} [props]
 * @param {...Child} children
 * @returns {any}
 */
export function h(kind, props, ...children) {
  const [tag, ...classes] = kind.split(".");
  const e = svgTags.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (classes.length) e.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(props ?? {})) {
    if (typeof value === "function") e.addEventListener(name.slice(2), value);
    else setAttribute(e, name, value);
  }
  e.append(...shown(children));
  return e;
}

/** @param {Child[]} children @returns {(Node | string)[]} */
function shown(children) {
  return children.flatMap((c) => (c === null || c === undefined || c === false ? [] : [c instanceof Node ? c : String(c)]));
}

/**
 * Sets an attribute, or removes it: for null, undefined and false.
 * @param {Element} e @param {string} name @param {any} value
 */
export function setAttribute(e, name, value) {
  if (value === null || value === undefined || value === false) e.removeAttribute(name);
  else {
    const text = value === true ? "" : String(value);
    if (e.getAttribute(name) !== text) e.setAttribute(name, text);
  }
}

/**
 * Puts text into an element, if it is another one.
 * @param {Element} e @param {string | number} text
 */
export function setText(e, text) {
  const now = String(text);
  if (e.textContent !== now) e.textContent = now;
}

/**
 * Replaces the children of an element.
 * @param {Element} e @param {...Child} children
 */
export function fill(e, ...children) {
  e.replaceChildren(...shown(children));
}

/**
 * Replaces the children of an element, but only if what they show has changed: the key says that. What has the focus or
 * is selected stays.
 * @param {HTMLElement} e @param {any} key @param {() => Child[]} make
 */
export function fillOnce(e, key, make) {
  const text = JSON.stringify(key);
  if (e.dataset.key === text) return;
  e.dataset.key = text;
  const id = e.contains(document.activeElement) ? document.activeElement?.id : "";
  fill(e, ...make());
  if (id) document.getElementById(id)?.focus();
}

/**
 * A name or a text that others wrote: its direction does not turn what stands beside it.
 * @param {string} text
 */
export const bdi = (text) => h("bdi", null, text);

/**
 * The element with this id.
 * @param {string} id @returns {any}
 */
export const $ = (id) => document.getElementById(id);
