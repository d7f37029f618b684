"use strict";

// Reads openapi.json and shows it. Every text goes in as text, never as HTML.

const at = (id) => document.getElementById(id);

// el makes an element: attributes by name, then children, texts among them; what is null or false is left out.
function el(name, attributes, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== false) e.setAttribute(key, value === true ? "" : value);
  }
  e.append(...children.flat(Infinity).filter((c) => c !== null && c !== false && c !== undefined && c !== ""));
  return e;
}

let doc;

function resolve(schema) {
  for (let i = 0; schema && schema.$ref && i < 20; i++) {
    schema = schema.$ref.slice(2).split("/").reduce((v, part) => v && v[part], doc);
  }
  return schema || {};
}

// kindOf is a schema's type in a few words.
function kindOf(schema) {
  const s = resolve(schema);
  const types = [s.type].flat().filter(Boolean);
  const words = types.filter((t) => t !== "null").map((t) => (t === "array" ? "array of " + kindOf(s.items) : t));
  if (!words.length) words.push("any");
  if (types.includes("null")) words.push("null");
  return words.join(" or ") + (s.format ? " (" + s.format + ")" : "");
}

// boundsOf says what values a schema takes.
function boundsOf(schema) {
  const s = resolve(schema);
  const out = [];
  if (s.enum) out.push(s.enum.filter((v) => v !== null).join(" | "));
  if (s.minimum !== undefined) out.push("≥ " + s.minimum);
  if (s.maximum !== undefined) out.push("≤ " + s.maximum);
  if (s.maxLength !== undefined) out.push("≤ " + s.maxLength + " characters");
  if (s.maxItems !== undefined) out.push("≤ " + s.maxItems + " items");
  if (s.default !== undefined) out.push("default " + JSON.stringify(s.default));
  if (s.pattern) out.push(s.pattern);
  return out.join(", ");
}

// inner is the schema of what a value holds: an array's items, a map's values.
function inner(schema) {
  const s = resolve(schema);
  if (s.items) return inner(s.items);
  if (s.additionalProperties && typeof s.additionalProperties === "object") return inner(s.additionalProperties);
  return s;
}

const byName = (a, b) => (a[0] < b[0] ? -1 : 1);

// rowsOf lists the fields of a schema and, below each, those within it.
function rowsOf(schema, path, depth) {
  const s = resolve(schema);
  const rows = [];
  for (const [name, field] of Object.entries(s.properties || {})) {
    const needed = (s.required || []).includes(name);
    rows.push(row(path + name, field, needed, "", field.description || resolve(field).description));
    const below = inner(field);
    const step = resolve(field).items ? "[]." : resolve(field).properties ? "." : ".*.";
    if (below.properties && depth < 3) rows.push(...rowsOf(below, path + name + step, depth + 1));
  }
  return rows;
}

function row(name, schema, needed, place, description) {
  const bounds = boundsOf(schema);
  return el("tr", {},
    el("td", {}, el("code", {}, name), needed && el("span", { class: "needed" }, "required")),
    el("td", { class: "kind" }, place ? place + ", " + kindOf(schema) : kindOf(schema)),
    el("td", {}, description || "", description && bounds ? " " : "", bounds && el("span", { class: "kind" }, bounds)));
}

function tableOf(caption, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("thead", {}, el("tr", {}, ...["Name", "Type", "Meaning"].map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, rows)));
}

// exampleOf makes a value that a schema takes.
function exampleOf(schema, depth = 0) {
  const s = resolve(schema);
  if (s.examples) return s.examples[0];
  if (s.default !== undefined) return s.default;
  if (s.enum) return s.enum[0];
  const type = [s.type].flat().find((t) => t !== "null");
  switch (type) {
    case "object": {
      const out = {};
      if (depth > 4) return out;
      for (const [name, field] of Object.entries(s.properties || {})) out[name] = exampleOf(field, depth + 1);
      if (s.additionalProperties && typeof s.additionalProperties === "object") out.name = exampleOf(s.additionalProperties, depth + 1);
      return out;
    }
    case "array": return depth > 4 ? [] : [exampleOf(s.items, depth + 1)];
    case "boolean": return false;
    case "integer": case "number": return s.minimum || 0;
    case "string": return s.format === "date-time" ? "2026-02-11T09:00:00Z" : s.format === "uri" ? "urn:example" : "…";
    default: return {};
  }
}

function sample(text, label) {
  const button = el("button", { type: "button", class: "copy", "aria-label": "Copy " + label }, "Copy");
  const pre = el("pre", {}, text);
  button.addEventListener("click", () => copy(button, pre, text));
  return el("div", { class: "sample" }, pre, button);
}

// copy puts a text on the clipboard; where the browser has none for a plain http page, it selects the text.
async function copy(button, pre, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(pre);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

// bodyOf is the JSON example of a media type, as text.
function bodyOf(media) {
  return JSON.stringify(media.example !== undefined ? media.example : exampleOf(media.schema), null, 2);
}

function curlOf(method, path, op) {
  const value = (p) => encodeURIComponent(p.example !== undefined ? p.example : exampleOf(p.schema));
  let where = path.replace(/{(\w+)}/g, (_, name) => value((op.parameters || []).find((p) => p.in === "path" && p.name === name) || { example: name }));
  const query = (op.parameters || []).filter((p) => p.in === "query" && p.required).map((p) => p.name + "=" + value(p));
  if (query.length) where += "?" + query.join("&");
  const words = ["curl -sS"];
  if (method !== "get") words.push("-X " + method.toUpperCase());
  words.push(quoted(new URL("." + where, location.href).href));
  const media = op.requestBody && op.requestBody.content["application/json"];
  if (media) words.push("-H 'Content-Type: application/json'", "-d " + quoted(JSON.stringify(JSON.parse(bodyOf(media)))));
  return words.join(" ");
}

function answerOf(status, response) {
  const [media, content] = Object.entries(response.content || {})[0] || ["", null];
  const codes = media === "application/problem+json" ? response.description.split(", ") : [];
  const headers = Object.entries(response.headers || {}).map(([name, h]) => row(name, h.schema, false, "header", h.description));
  const fields = content ? rowsOf(inner(content.schema), "", 0) : [];
  const json = content && media.endsWith("json") && !codes.length;
  return el("details", { class: "answer", open: status < 300 },
    el("summary", {}, el("span", { class: "status " + (status >= 400 ? "bad" : "fine") }, status),
      codes.length ? codes.map((c) => el("span", { class: "code" }, c)) : response.description, el("span", { class: "kind" }, media)),
    el("div", {},
      headers.length + fields.length ? tableOf("Answer " + status, [...headers, ...fields]) : el("p", { class: "none" }, content ? kindOf(content.schema) : "No body."),
      json && fields.length ? [el("h3", {}, "Example"), sample(bodyOf(content), "example of answer " + status)] : null));
}

function operationOf(path, method, op) {
  const parameters = (op.parameters || []).map((p) => row(p.name, p.schema, p.required, p.in, p.description));
  const media = op.requestBody && op.requestBody.content["application/json"];
  const curl = curlOf(method, path, op);
  const e = el("details", { class: "operation", id: op.operationId },
    el("summary", {}, el("span", { class: "method " + method }, method.toUpperCase()), el("span", { class: "path" }, path),
      el("span", { class: "words" }, op.summary), el("span", { class: "kind" }, op["x-role"])),
    el("div", { class: "inside" },
      el("p", { class: "id" }, "operationId ", el("code", {}, op.operationId), op.description ? ". " + op.description : ""),
      el("h3", {}, "Try it"), sample(curl, "curl command of " + op.operationId),
      parameters.length ? [el("h3", {}, "Parameters"), tableOf("Parameters of " + op.operationId, parameters)] : null,
      media ? [el("h3", {}, "Body" + (op.requestBody.required ? "" : " (optional)")), tableOf("Body of " + op.operationId, rowsOf(media.schema, "", 0)),
        el("h3", {}, "Example of a body"), sample(bodyOf(media), "example of a body of " + op.operationId)] : null,
      el("h3", {}, "Answers"), Object.entries(op.responses).sort(byName).map(([status, r]) => answerOf(status, r))));
  e.words = [path, method, op.operationId, op.summary, op.tags, ...Object.values(op.responses).map((r) => r.description)].join(" ").toLowerCase();
  return e;
}

function show() {
  document.title = doc.info.title + " API";
  at("name").textContent = doc.info.title;
  at("about").textContent = doc.info.version;
  const main = at("operations");
  main.append(el("p", { class: "intro" }, doc.info.description || ""));
  const tags = new Map((doc.tags || []).map((t) => [t.name, []]));
  for (const [path, item] of Object.entries(doc.paths).sort(byName)) {
    for (const [method, op] of Object.entries(item)) {
      const tag = (op.tags || ["other"])[0];
      if (!tags.has(tag)) tags.set(tag, []);
      tags.get(tag).push({ op, element: operationOf(path, method, op) });
    }
  }
  for (const [tag, list] of tags) {
    main.append(el("section", { "aria-labelledby": "tag-" + tag }, el("h2", { id: "tag-" + tag }, tag), list.map((o) => o.element)));
    at("contents").append(el("h2", {}, tag), el("ul", {}, list.map((o) => el("li", {}, el("a", { href: "#" + o.op.operationId }, o.op.operationId)))));
  }
  at("state").remove();
}

function filter() {
  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const e of document.querySelectorAll("details.operation")) {
    e.hidden = !words.every((w) => e.words.includes(w));
    if (!e.hidden) shown++;
    document.querySelector('nav a[href="#' + e.id + '"]').parentElement.hidden = e.hidden;
  }
  for (const s of document.querySelectorAll("main section")) s.hidden = !s.querySelector("details.operation:not([hidden])");
  at("count").textContent = shown + (shown === 1 ? " operation" : " operations");
}

// openTarget opens the operation that the address names.
function openTarget() {
  let id = location.hash.slice(1);
  try {
    id = decodeURIComponent(id);
  } catch {} // no escapes of ours: then it is as it stands, or nothing
  const e = id && at(id);
  if (e && e.matches("details.operation")) {
    e.open = true;
    e.scrollIntoView();
  }
}

function listen() {
  at("filter").addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input") && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      at("filter").focus();
    } else if (event.key === "Escape" && event.target === at("filter")) {
      at("filter").value = "";
      filter();
    }
  });
  at("all").addEventListener("click", () => {
    const open = at("all").getAttribute("aria-pressed") !== "true";
    at("all").setAttribute("aria-pressed", open);
    at("all").textContent = open ? "Close all" : "Open all";
    for (const e of document.querySelectorAll("details.operation")) e.open = open;
  });
  at("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  window.addEventListener("hashchange", openTarget);
}

async function start() {
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error("status " + response.status);
    doc = await response.json();
  } catch (error) {
    at("state").textContent = "openapi.json cannot be read: " + error.message;
    return;
  }
  show();
  listen();
  filter();
  openTarget();
}

start();
