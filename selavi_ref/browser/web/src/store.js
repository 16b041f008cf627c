/** The state of the page: what was read, what is shown, what is selected; and every edit. */
import { batch, computed, effect, signal } from "@preact/signals";
import { describe } from "./clusters.js";
import { annotate, load, page, previews, read, served } from "./data.js";
import { route } from "./route.js";
import { baseName, counted, visible } from "./text.jsx";

/** @type {import("@preact/signals").Signal<import("./data.js").Collection | null>} */
export const collection = signal(null);

/** @type {import("@preact/signals").Signal<import("./data.js").Annotations | null>} */
export const annotations = signal(null);

/** @type {import("@preact/signals").Signal<Record<string, import("./data.js").Labelling>>} */
const labellings = signal({});

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
  });
  effect(() => {
    const name = wantedName.value;
    if (name !== null) guarded(() => showLabelling(name));
  });
}

async function showLabelling(name) {
  const payload = labellings.peek()[name] ?? (await load(`labelling-${name}`));
  if (name !== wantedName.peek()) return;
  batch(() => {
    labellings.value = { ...labellings.peek(), [name]: payload };
    labellingName.value = name;
  });
}

/** Another window may have edited meanwhile. */
async function refresh() {
  if (!served || !annotations.value) return;
  try {
    const now = await read("annotations");
    if (now.revision !== annotations.value.revision) annotations.value = now;
  } catch {
    // The banner already says that the server has gone.
  }
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
 * Sends one edit and takes the answer as the truth. Returns whether it was done.
 * @param {object} change As the server expects it, without the labelling.
 * @param {string} done What is said afterwards.
 */
export async function edit(change, done) {
  if (!served) return false;
  problem.value = null;
  const answer = await guarded(() => annotate({ labelling: labellingName.value, ...change }));
  if (!answer) return false;
  annotations.value = answer;
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

export function renameCluster(cluster, name) {
  const before = inWords(cluster);
  const done = name ? `Renamed ${before} to ${brief(visible(name))}.` : `Took the name of ${before} away.`;
  return edit({ op: "rename", cluster, name }, done);
}

export const mergeCluster = (cluster, into) =>
  edit({ op: "merge", clusters: [cluster], into }, `Merged ${inWords(cluster)} into ${inWords(into)}.`);

/** For a line of text: a very long name is cut. */
const brief = (name) => (name.length > MOST_LETTERS ? `${name.slice(0, MOST_LETTERS)}…` : name);

/** A cluster in the middle of a sentence. */
const inWords = (id) => brief(titleOfCluster(id)).replace(/^Cluster (\d+)$/, "cluster $1");

export function undo() {
  const what = annotations.value?.undo;
  return what ? edit({ op: "undo" }, `Undone: ${visible(what)}.`) : say("There is nothing to undo.");
}

export function redo() {
  const what = annotations.value?.redo;
  return what ? edit({ op: "redo" }, `Done again: ${visible(what)}.`) : say("There is nothing to do again.");
}

/** What the keys w and m are about: the selection if there is one, else the video under the focus. */
export const targets = (focused) =>
  selected.value.size ? [...selected.value] : focused === null || focused === undefined ? [] : [focused];

/** Marks as wrong; if all of them are already, takes the marks away. */
export function toggleWrong(videos) {
  if (!videos.length) return;
  const marks = clustering.value.wrong;
  markWrong(videos, !videos.every((video) => marks.has(video)));
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
  sounding.value = sounding.value === video || !previews ? null : video;
};

export const pageTitle = computed(() => collection.value?.title ?? page.title);
