// Requests to breakerd. Their paths, bodies and answers are those of its OpenAPI document: see types/api.d.ts.

/** @typedef {import("../types/api").Reads} Reads */
/** @typedef {import("../types/api").Writes} Writes */

const patience = 5000;

/** A request that did not succeed. Its status is 0, and its code no_answer, if nobody answered. */
export class Problem extends Error {
  /** @param {number} status @param {string} code @param {string} detail @param {string[]} [fields] */
  constructor(status, code, detail, fields = []) {
    super([detail, ...fields].join(" · "));
    this.status = status;
    this.code = code;
  }
}

/** What is called when a request is refused because nobody knows who asks; not for one from before the last sign-in. */
export const hooks = {unauthenticated: () => {}, signIns: 0};

/** @param {string} path @param {string} [agent] @param {Record<string, string | number | string[] | undefined>} [query] */
function address(path, agent, query) {
  const url = new URL(".." + path.replace("{agent}", encodeURIComponent(agent ?? "")), import.meta.url);
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== "") url.searchParams.append(name, String(one));
    }
  }
  return url;
}

/** @param {string} method @param {URL} url @param {any} body @param {Record<string, string>} headers */
async function send(method, url, body, headers) {
  let res;
  const signIns = hooks.signIns;
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), patience);
  try {
    res = await fetch(url, {
      method, cache: "no-store", signal: stop.signal,
      headers: body === undefined ? headers : {"Content-Type": "application/json", ...headers},
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, "no_answer", "breakerd does not answer");
  } finally {
    clearTimeout(timer);
  }
  const text = await res.text().catch(() => "");
  let answer;
  try {
    answer = text ? JSON.parse(text) : undefined;
  } catch {
    throw new Problem(res.status, "no_answer", `${res.status} from something that is not breakerd`);
  }
  if (!res.ok && !answer?.checks) {
    if (res.status === 401 && signIns === hooks.signIns) hooks.unauthenticated();
    /** @type {{location: string, message: string}[]} */
    const errors = answer?.errors ?? [];
    throw new Problem(res.status, answer?.code ?? "no_answer", answer?.detail ?? res.statusText,
      errors.map((e) => `${e.location}: ${e.message}`));
  }
  return {answer, etag: res.headers.get("ETag") ?? ""};
}

/**
 * Reads. An error is a Problem.
 * @template {keyof Reads} P
 * @param {P} path @param {string} [agent] in the place of {agent} @param {Record<string, string | number | string[] | undefined>} [query]
 * @returns {Promise<Reads[P]>}
 */
export async function get(path, agent, query) {
  return (await send("GET", address(path, agent, query), undefined, {})).answer;
}

/**
 * Reads a document with its tag; the document is undefined if there is none.
 * @template {keyof Reads} P
 * @param {P} path @param {string} [agent]
 * @returns {Promise<{answer: Reads[P] | undefined, etag: string}>}
 */
export async function getTagged(path, agent) {
  try {
    return await send("GET", address(path, agent), undefined, {});
  } catch (err) {
    if (err instanceof Problem && err.code === "config_absent") return {answer: undefined, etag: ""};
    throw err;
  }
}

/**
 * Writes. An error is a Problem.
 * @template {keyof Writes} O
 * @param {O} operation method and path
 * @param {{agent?: string, body?: Writes[O]["body"], headers?: Record<string, string>, query?: Record<string, string>}} [of]
 * @returns {Promise<Writes[O]["answer"]>}
 */
export async function write(operation, of = {}) {
  const [method, path] = operation.split(" ");
  return (await send(method, address(path, of.agent, of.query), of.body, of.headers ?? {})).answer;
}

/** The address of the stream of events. */
export const stream = () => address("/v1/events").href;
