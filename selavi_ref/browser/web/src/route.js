/**
 * The address after the #: which view, and its state as a query, so that what is seen can be linked to, and back and
 * forward work. `#/cluster/5?labelling=0&reverse=1` is { view: "cluster", id: "5", query }.
 */
import { signal } from "@preact/signals";

/** @typedef {{view: string, id: string | null, query: URLSearchParams, key: string}} Route */

const VIEWS = new Set(["clusters", "cluster", "video", "map", "find", "next"]);

/** @type {import("@preact/signals").Signal<Route>} */
export const route = signal(parse());

/** The address of a view in the present labelling; `query` holds what else its state is. */
export function link(path, query = {}) {
  const full = new URLSearchParams();
  const labelling = route.peek().query.get("labelling");
  if (labelling !== null) full.set("labelling", labelling);
  for (const [name, value] of Object.entries(query)) set(full, name, value);
  const text = full.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** Goes to an address; with `replace`, the present one is forgotten. */
export function go(hash, { replace = false } = {}) {
  if (hash === location.hash) return;
  if (!replace) {
    location.hash = hash;
    return;
  }
  try {
    history.replaceState(history.state, "", hash);
    adopt();
  } catch {
    location.replace(hash);
  }
}

/** Changes some of the query, and leaves the rest: `setQuery({ sort: "name", q: null })`. */
export function setQuery(changes, options) {
  const { view, id, query } = route.value;
  const full = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) set(full, name, value);
  const text = full.toString();
  go(`#/${view}${id === null ? "" : `/${id}`}${text ? `?${text}` : ""}`, options);
}

function set(query, name, value) {
  if (value === null || value === undefined || value === "") query.delete(name);
  else query.set(name, value);
}

function parse() {
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", id = null] = path.split("/");
  const name = view === "" ? "clusters" : view;
  return { view: VIEWS.has(name) ? name : "missing", id, query: new URLSearchParams(rest.join("?")), key: keyOf() };
}

/** Each entry of the history has a key, by which its place on the page is found again. */
function keyOf() {
  const present = history.state?.key;
  if (present) return present;
  const key = Math.random().toString(36).slice(2);
  try {
    history.replaceState({ key }, "");
  } catch {
    // A page from a file may be refused this; then the place is not found again.
  }
  return key;
}

function adopt() {
  route.value = parse();
}

addEventListener("hashchange", adopt);
