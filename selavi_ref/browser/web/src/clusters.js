/**
 * What a labelling and its edits amount to: the clusters, their members in order of typicality, and their statistics.
 * Pure functions of the payloads; a hundred thousand videos take some milliseconds.
 */

/** The pseudo-cluster of the videos that have no label. */
export const NONE = -1;

/** Where there are more numbers than this, those without videos and edits are not clusters. */
const MOST_EMPTY = 1000;

/**
 * @typedef {object} Cluster
 * @property {number} id
 * @property {string | null} name As given by a person.
 * @property {string} title Its name, or "Cluster 5".
 * @property {number} size
 * @property {Int32Array} members The most typical first.
 * @property {number | null} confidence Mean over the members.
 * @property {number | null} entropy Mean entropy of the members' posteriors, in nats.
 * @property {number | null} purity Share of the most common class among the members whose class is known.
 * @property {number | null} classEntropy Entropy of the classes of the members, in nats.
 * @property {[number, number][]} classes Class and count, the most common first.
 * @property {number} wrong Members that are marked as wrong.
 * @property {number} moved Members that were moved here by hand.
 * @property {number[]} absorbed Clusters that were merged into this one.
 *
 * @typedef {object} Clustering
 * @property {Int32Array} of The cluster of each video.
 * @property {Cluster[]} list All that have not been merged away, by number; without the pseudo-cluster, and without
 *   empty ones where numbers are very many.
 * @property {Cluster | null} none The videos without label, if there are any.
 * @property {Map<number, Cluster>} byId With the pseudo-cluster.
 * @property {Map<number, number>} merged Clusters that are no more, and the ones that they are part of.
 * @property {Set<number>} wrong
 * @property {Map<number, number>} moved Videos that a person has moved to another cluster.
 * @property {Set<number>} confirmed Videos of which a person has said that they are where they belong.
 */

/**
 * @param {import("./data.js").Collection} collection
 * @param {import("./data.js").Labelling} labelling
 * @param {import("./data.js").Edits} [edits]
 * @returns {Clustering}
 */
export function describe(collection, labelling, edits = {}) {
  const merged = numbered(edits.merged);
  const moved = numbered(edits.moved);
  const wrong = new Set(edits.wrong ?? []);
  const of = effective(labelling.label, merged, moved);
  const confirmed = new Set([...moved.keys()].filter((video) => staysIn(labelling.label[video], of[video], merged)));
  for (const video of confirmed) moved.delete(video);
  const alive = numbersOf(labelling, edits, of, merged)
    .filter((id) => !merged.has(id))
    .sort((a, b) => a - b);

  const members = group(of, [NONE, ...alive], labelling.order);
  const byId = new Map();
  const make = (id) => {
    const cluster = summary(id, members.get(id), collection, labelling, edits.names?.[id] ?? null);
    byId.set(id, cluster);
    return cluster;
  };
  const list = alive.map(make);
  const none = members.get(NONE).length ? make(NONE) : null;

  for (const video of wrong) if (byId.has(of[video])) byId.get(of[video]).wrong++;
  for (const video of moved.keys()) if (byId.has(of[video])) byId.get(of[video]).moved++;
  for (const [gone, root] of merged) byId.get(root)?.absorbed.push(gone);
  return { of, list, none, byId, merged, wrong, moved, confirmed };
}

const staysIn = (label, cluster, merged) => label !== NONE && (merged.get(label) ?? label) === cluster;

/** The cluster of one video under edits, given its label. */
export function effectiveLabel(label, video, edits = {}) {
  const cluster = edits.moved?.[video] ?? label;
  return edits.merged?.[cluster] ?? cluster;
}

export const titleOf = (id, name) => name || (id === NONE ? "Without label" : `Cluster ${id}`);

const numbered = (record) => new Map(Object.entries(record ?? {}).map(([key, value]) => [Number(key), value]));

function effective(label, merged, moved) {
  const of = Int32Array.from(label);
  for (const [video, cluster] of moved) of[video] = cluster;
  if (merged.size) for (let i = 0; i < of.length; i++) of[i] = merged.get(of[i]) ?? of[i];
  return of;
}

/** The numbers of all clusters, also of those that were merged away. */
function numbersOf({ clusters }, edits, of, merged) {
  const ids = new Set(edits.created);
  if (clusters <= MOST_EMPTY) for (let id = 0; id < clusters; id++) ids.add(id);
  for (const id of of) if (id !== NONE) ids.add(id);
  for (const id of Object.keys(edits.names ?? {})) ids.add(Number(id));
  for (const root of merged.values()) ids.add(root);
  return [...ids];
}

/** The members of each cluster as views of one array, in the labelling's order; those that it does not list, last. */
function group(of, ids, order) {
  const counts = new Map(ids.map((id) => [id, 0]));
  for (const id of of) counts.set(id, (counts.get(id) ?? 0) + 1);
  const next = new Map();
  let start = 0;
  for (const [id, count] of counts) {
    next.set(id, start);
    start += count;
  }
  const all = new Int32Array(of.length);
  const seen = new Uint8Array(of.length);
  const put = (video) => {
    if (seen[video]) return;
    seen[video] = 1;
    const at = next.get(of[video]);
    all[at] = video;
    next.set(of[video], at + 1);
  };
  for (const video of order) put(video);
  for (let video = 0; video < of.length; video++) put(video);
  return new Map([...counts].map(([id, count]) => [id, all.subarray(next.get(id) - count, next.get(id))]));
}

function summary(id, members, collection, labelling, name) {
  const counts = new Map();
  for (const video of members) {
    const kind = collection.videos.class[video];
    if (kind >= 0) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const classes = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  const known = classes.reduce((sum, [, count]) => sum + count, 0);
  return {
    id,
    name: name || null,
    title: titleOf(id, name),
    size: members.length,
    members,
    confidence: id === NONE ? null : mean(labelling.confidence, members),
    entropy: id === NONE || !labelling.entropy ? null : mean(labelling.entropy, members),
    purity: id !== NONE && known ? classes[0][1] / known : null,
    classEntropy: id !== NONE && known ? entropyOf(classes, known) : null,
    classes,
    wrong: 0,
    moved: 0,
    absorbed: [],
  };
}

/** Mean of the values that are there; null of none. */
function mean(values, members) {
  let sum = 0;
  let count = 0;
  for (const video of members) {
    const value = values[video];
    if (value === null || Number.isNaN(value)) continue;
    sum += value;
    count++;
  }
  return count ? sum / count : null;
}

function entropyOf(classes, known) {
  let sum = 0;
  for (const [, count] of classes) sum -= (count / known) * Math.log(count / known);
  return Math.max(0, sum);
}
