/** Which clusters are shown, and in which order: the state of the view of all clusters, read from its address. */
import { NONE } from "./clusters.js";

const names = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** What clusters can be sorted by; `down` is the direction that one wants first. */
export const SORTS = {
  size: { title: "Size", of: (cluster) => cluster.size, down: true },
  confidence: { title: "Confidence", of: (cluster) => cluster.confidence, down: true },
  entropy: { title: "Uncertainty", of: (cluster) => cluster.entropy, down: true },
  purity: { title: "Purity", of: (cluster) => cluster.purity, down: true, classes: true },
  mixture: { title: "Class entropy", of: (cluster) => cluster.classEntropy, down: true, classes: true },
  wrong: { title: "Marked wrong", of: (cluster) => cluster.wrong, down: true },
  name: { title: "Name", of: (cluster) => cluster.title, down: false },
  number: { title: "Number", of: (cluster) => cluster.id, down: false },
};

/** What clusters can be filtered by: ranges of figures. */
export const RANGES = {
  size: { title: "Videos", of: SORTS.size.of, step: 1 },
  confidence: { title: "Confidence", of: SORTS.confidence.of, step: 0.01 },
  entropy: { title: "Uncertainty", of: SORTS.entropy.of, step: 0.01 },
  purity: { title: "Purity", of: SORTS.purity.of, step: 0.01, classes: true },
};

/**
 * @typedef {object} Wanted
 * @property {string} sort
 * @property {boolean} down
 * @property {string} text Searched for, in small letters.
 * @property {number | null} kind A class that must be among the members.
 * @property {Record<string, [number, number]>} ranges Where the figures must lie, borders included.
 */

/** @returns {Wanted} */
export function wantedBy(query, classes) {
  const sort = query.get("sort") in SORTS ? query.get("sort") : "size";
  const direction = query.get("direction");
  const kind = query.has("class") ? classes.indexOf(query.get("class")) : -1;
  const ranges = {};
  for (const name of Object.keys(RANGES)) {
    const range = readRange(query.get(name));
    if (range) ranges[name] = range;
  }
  return {
    sort,
    down: direction ? direction === "down" : SORTS[sort].down,
    text: (query.get("q") ?? "").trim().toLowerCase(),
    kind: kind < 0 ? null : kind,
    ranges,
  };
}

/** "0.5..", "..0.9", "0.5..0.9" */
export function readRange(text) {
  const found = /^(-?[\d.]*)\.\.(-?[\d.]*?)$/.exec(text ?? "");
  if (!found || (found[1] === "" && found[2] === "")) return null;
  const low = found[1] === "" ? -Infinity : Number(found[1]);
  const high = found[2] === "" ? Infinity : Number(found[2]);
  return Number.isNaN(low) || Number.isNaN(high) ? null : [low, high];
}

export const writeRange = (low, high) => (low === "" && high === "" ? null : `${low}..${high}`);

/** The clusters that are wanted, in the order that is wanted; the one without label always last. */
export function listClusters(clustering, wanted, classes) {
  const chosen = clustering.list.filter((cluster) => fits(cluster, wanted, classes));
  const { of } = SORTS[wanted.sort];
  const sign = wanted.down ? -1 : 1;
  chosen.sort((a, b) => {
    const [x, y] = [of(a), of(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a.id - b.id;
    const order = typeof x === "string" ? names.compare(x, y) : x - y;
    return sign * order || a.id - b.id;
  });
  const { none } = clustering;
  if (none && fits(none, wanted, classes)) chosen.push(none);
  return chosen;
}

function fits(cluster, { text, kind, ranges }, classes) {
  if (kind !== null && !cluster.classes.some(([one]) => one === kind)) return false;
  for (const [name, [low, high]] of Object.entries(ranges)) {
    const value = RANGES[name].of(cluster);
    if (value === null || value < low || value > high) return false;
  }
  return text === "" || isCalled(cluster, text, classes);
}

/** By its name, its number, or one of its most common classes. */
function isCalled({ id, title, classes: counts }, text, classes) {
  if (title.toLowerCase().includes(text)) return true;
  if (id !== NONE && `cluster ${id}` === text) return true;
  return counts.slice(0, 3).some(([kind]) => classes[kind].toLowerCase().includes(text));
}
