/** The state of the page: what was read, what is shown, what is selected; and every edit. */
import { batch, computed, effect, signal } from "@preact/signals";
import { describe } from "./clusters.js";
import { annotate, gone, load, page, previews, read, served } from "./data.js";
import { route } from "./route.js";
import { baseName, counted, visible } from "./text.jsx";

/** @type {import("@preact/signals").Signal<import("./data.js").Collection | null>} */
export const collection = signal(null);

/** @type {import("@preact/signals").Signal<import("./data.js").Annotations | null>} */
export const annotations = signal(null);

/** @type {import("@preact/signals").Signal<Record<string, import("./data.js").Labelling>>} */
const labellings = signal({});

/** Proposed names: of each labelling, of each cluster, the best first. */
const proposals = signal({});

/** What went wrong, in one line; or null. */
export const problem = signal(null);

/** What was just done, for the eye and for screen readers. */
export const message = signal(null);

/** Videos that the next action is about. */
export const selected = signal(new Set());

/** The open dialog: {kind: "help" | "move" | "merge", ...}; or null. */
export const dialog = signal(null);

/** The video whose sound is on; or null. */
export const sounding = signal(null);

/** The video whose sound was asked for last and cannot be played; or null. */
export const silent = signal(null);

/** The cluster whose name is being edited; or null. */
export const renaming = signal(null);

/** The labelling that the address asks for. */
const wantedName = computed(() => {
  const all = collection.value?.labellings ?? [];
  const wanted = route.value.query.get("labelling");
  return all.some(({ name }) => name === wanted) ? wanted : (all[0]?.name ?? null);
});

/** The labelling that is shown: until another one has been read, the one before. */
export const labellingName = signal(null);

/** @type {import("@preact/signals").ReadonlySignal<import("./data.js").Labelling | null>} */
export const labelling = computed(() => labellings.value[labellingName.value] ?? null);

export const editsOf = (name) => annotations.value?.labellings[name] ?? {};

/** @type {import("@preact/signals").ReadonlySignal<import("./clusters.js").Clustering | null>} */
export const clustering = computed(() => {
  if (!collection.value || !labelling.value || !annotations.value) return null;
  return describe(collection.value, labelling.value, editsOf(labellingName.value));
});

/** Names proposed for a cluster of the present labelling; none once it has a name. */
export const proposalsOf = (id) =>
  clustering.value?.byId.get(id)?.name ? [] : (proposals.value[labellingName.value]?.[id] ?? []);

export const hasClasses = computed(() => (collection.value?.classes.length ?? 0) > 0);

/** Paths in small letters, for the search. */
export const lowerPaths = computed(() => (collection.value?.videos.path ?? []).map((path) => path.toLowerCase()));

const MOST_LETTERS = 60;

export const nameOfVideo = (video) => visible(baseName(collection.value.videos.path[video]));

export const titleOfCluster = (id) => visible(clustering.value?.byId.get(id)?.title ?? `Cluster ${id}`);

/** Begins to read, and keeps on reading what the address asks for. */
export async function start() {
  addEventListener("focus", refresh);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && refresh());
  await guarded(async () => {
    const [first, edits] = await Promise.all([load("collection"), read("annotations")]);
    batch(() => {
      collection.value = first;
      annotations.value = edits;
    });
    if (served) proposals.value = await read("proposals");
  });
  effect(() => {
    const name = wantedName.value;
    if (name !== null) guarded(() => showLabelling(name));
  });
}

/** Where labels came without confidence it is 0 everywhere, which no label can have: it is not known. */
const honest = (payload) =>
  payload.confidence.some((value) => value > 0) ? payload : { ...payload, confidence: payload.confidence.map(() => null) };

async function showLabelling(name) {
  const payload = labellings.peek()[name] ?? honest(await load(`labelling-${name}`));
  if (name !== wantedName.peek()) return;
  batch(() => {
    labellings.value = { ...labellings.peek(), [name]: payload };
    labellingName.value = name;
  });
}

/** What is asked of the annotations is asked in turn, so that no answer is older than the one before. */
let turn = Promise.resolve();

const inTurn = (work) => (turn = turn.then(work, work));

/** How often edits of others have come in between. */
let others = 0;

/** Another window may have edited meanwhile. */
async function refresh() {
  if (!served || !annotations.value) return;
  await inTurn(async () => {
    try {
      const now = await read("annotations");
      if (now.revision === annotations.value.revision) return;
      others++;
      annotations.value = now;
    } catch {
      // The banner already says that the server has gone.
    }
  });
}

async function guarded(work) {
  try {
    return await work();
  } catch (error) {
    problem.value = error.message;
    return null;
  }
}

/** Shows and reads out what was done. */
export function say(text, { undoable = false } = {}) {
  message.value = { text, undoable, at: Date.now() };
}

/**
 * Sends one edit, after those before it, and takes the answer as the truth. Returns whether it was done.
 * @param {object} change As the server expects it, without the labelling and the revision.
 * @param {string} done What is said afterwards.
 */
export async function edit(change, done) {
  if (!served) return false;
  problem.value = null;
  const asked = asOfNow();
  return inTurn(() => send({ labelling: asked.labelling, ...change }, asked, done));
}

/** What an edit that is asked for now is meant for: edits of one's own may still be on their way, those of others not. */
const asOfNow = () => ({ labelling: labellingName.value, revision: annotations.value.revision, others });

async function send(change, asked, done) {
  const revision = asked.others === others ? annotations.value.revision : asked.revision;
  try {
    const answer = await annotate({ ...change, revision });
    if (answer.revision !== revision + 1) others++;
    annotations.value = answer;
  } catch (error) {
    const now = error.payload?.annotations;
    if (now) {
      others++;
      annotations.value = now;
    }
    // That the server has gone is said anyway.
    if (!gone.value) problem.value = now ? "The labels have been edited elsewhere; check again." : error.message;
    return false;
  }
  say(done, { undoable: change.op !== "undo" && change.op !== "redo" });
  return true;
}

const videosInWords = (videos) => (videos.length === 1 ? brief(nameOfVideo(videos[0])) : counted(videos.length, "video"));

export const markWrong = (videos, wrong) =>
  edit({ op: "wrong", videos, wrong }, `Marked ${videosInWords(videos)} as ${wrong ? "wrong" : "not wrong"}.`);

export const moveVideos = (videos, to, name) =>
  edit(
    to === "new" ? { op: "move", videos, to, name } : { op: "move", videos, to },
    `Moved ${videosInWords(videos)} to ${to === "new" ? brief(visible(name)) : inWords(to)}.`,
  );

/** Says that a video belongs to the cluster that it is in. */
export const confirmLabel = (video) => {
  const to = clustering.value.of[video];
  return edit({ op: "move", videos: [video], to }, `${brief(nameOfVideo(video))} is in ${inWords(to)}: confirmed.`);
};

export function renameCluster(cluster, name) {
  const before = inWords(cluster);
  const done = name ? `Renamed ${before} to ${brief(visible(name))}.` : `Removed the name of ${before}.`;
  return edit({ op: "rename", cluster, name }, done);
}

export const mergeCluster = (cluster, into) =>
  edit({ op: "merge", clusters: [cluster], into }, `Merged ${inWords(cluster)} into ${inWords(into)}.`);

/** For a line of text: a very long name is cut. */
const brief = (name) => (name.length > MOST_LETTERS ? `${name.slice(0, MOST_LETTERS)}…` : name);

/** A cluster in the middle of a sentence. */
const inWords = (id) => brief(titleOfCluster(id)).replace(/^Cluster (\d+)$/, "cluster $1");

export const undo = () => turnBack("undo", "Undone", "There is nothing to undo.");

export const redo = () => turnBack("redo", "Redone", "There is nothing to redo.");

/** What is undone is what is there when its turn comes. */
async function turnBack(op, done, nothing) {
  if (!served || !annotations.value) return;
  problem.value = null;
  const asked = asOfNow();
  await inTurn(() => {
    const what = annotations.value[op];
    return what ? send({ op }, asked, `${done}: ${visible(what)}.`) : say(nothing);
  });
}

/** What the keys w and m are about: the selection if there is one, else the video under the focus. */
export const targets = (focused) =>
  selected.value.size ? [...selected.value] : focused === null || focused === undefined ? [] : [focused];

/** Whether any of some videos can be wrong where it is: without label none can, but a mark that is there can go. */
export const canBeMarked = (videos) => {
  const { of, wrong } = clustering.value;
  return videos.some((video) => of[video] >= 0 || wrong.has(video));
};

/** Marks as wrong; if all of them are already, takes the marks away. */
export function toggleWrong(videos) {
  if (!canBeMarked(videos)) return false;
  const marks = clustering.value.wrong;
  markWrong(videos, !videos.every((video) => marks.has(video)));
  return true;
}

export function askMove(videos) {
  if (videos.length) dialog.value = { kind: "move", videos };
}

export function toggleSelected(videos, on) {
  const next = new Set(selected.value);
  for (const video of videos) {
    if (on ?? !next.has(video)) next.add(video);
    else next.delete(video);
  }
  selected.value = next;
}

export const clearSelection = () => {
  if (selected.value.size) selected.value = new Set();
};

/** Turns the sound of a video on, and that of any other off; asked again, off. */
export const toggleSound = (video) => {
  silent.value = null;
  sounding.value = sounding.value === video || !previews ? null : video;
};

export const pageTitle = computed(() => collection.value?.title ?? page.title);
