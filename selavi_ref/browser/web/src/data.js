/**
 * Reads what the page shows: from the server by fetch, or, in an exported folder, from scripts, since a page that was
 * opened from a file may not fetch. Also sends what is edited.
 */
import { signal } from "@preact/signals";

/**
 * @typedef {object} Page
 * @property {"served" | "exported"} mode
 * @property {string} [token]
 * @property {string} title
 * @property {boolean} [previews] Whether there are previews at all; true unless it says otherwise.
 * @property {boolean} [search] Whether the server finds videos by a text or a file.
 *
 * @typedef {object} Collection
 * @property {string} title
 * @property {string} source Where the videos come from, in words.
 * @property {{path: string[], class: number[], modalities: number[], aspect: number[] | null,
 *   reason: Record<string, string>}} videos
 * @property {string[]} classes Empty when no class is known.
 * @property {string[]} modalities
 * @property {{name: string, title: string, clusters: number}[]} labellings The main one first.
 * @property {boolean} map
 * @property {boolean} details
 *
 * @typedef {object} Labelling
 * @property {string} name
 * @property {number} clusters
 * @property {number[]} label -1: no label.
 * @property {(number | null)[]} confidence
 * @property {number[] | null} entropy In nats.
 * @property {number[]} runner_up
 * @property {number[]} order All labelled videos, the most typical of their cluster first.
 *
 * @typedef {object} Edits What a person changed in one labelling.
 * @property {Record<string, string>} [names]
 * @property {Record<string, number>} [merged] Each cluster that is no more, and the one that it is part of.
 * @property {Record<string, number>} [moved]
 * @property {number[]} [wrong]
 * @property {number[]} [created] Clusters created by the user.
 *
 * @typedef {{name: string, score: number | null, source: string}} Proposal A proposed name of a cluster.
 *
 * @typedef {{revision: number, undo: string | null, redo: string | null, labellings: Record<string, Edits>}} Annotations
 *
 * @typedef {object} Detail
 * @property {{name: string, label: number, confidence: number}[]} heads
 * @property {Record<string, [number, number][]>} posterior
 * @property {Record<string, [number, number][]>} neighbours
 * @property {{exists: boolean, bytes: number, seconds: number | null, width: number | null, height: number | null,
 *   preview?: boolean}} file `preview`: whether there is one, where that is known.
 */

const VIDEOS_PER_FILE = 100;

/** @type {Page} */
export const page = JSON.parse(document.getElementById("page").textContent);
export const served = page.mode === "served";

/** Whether sound can be asked for. */
export const previews = page.previews !== false;

/** Whether videos can be asked for by a text or a file. */
export const searches = served && page.search === true;

/** Whether the server has stopped answering. */
export const gone = signal(false);

/** An answer that says in one line what is wrong. */
export class Refusal extends Error {
  /** @param {string} why @param {object | null} [payload] What else was answered. */
  constructor(why, payload = null) {
    super(why);
    this.payload = payload;
  }
}

const kept = new Map();

/** Reads a payload that does not change; asked again, it is the same promise. */
export function load(name) {
  if (!kept.has(name)) {
    const promise = read(name);
    kept.set(name, promise);
    promise.catch(() => kept.delete(name));
  }
  return kept.get(name);
}

/** Reads a payload as it is now. */
export function read(name) {
  return served ? ask(`data/${name}.json`) : readScript(name);
}

/** @type {Map<number, Detail>} */
const details = new Map();

/** What has been read of a video so far; or undefined. */
export const knownDetail = (video) => details.get(video);

/** @returns {Promise<Detail>} */
export async function loadDetail(video) {
  const detail = served ? await load(`video/${video}`) : (await load(`videos-${Math.floor(video / VIDEOS_PER_FILE)}`))[video];
  if (!detail) throw new Refusal("There are no details of this video.");
  details.set(video, detail);
  return detail;
}

/** Whether it is worth asking for the preview of a video; `detail` may be unknown. */
export const mayHavePreview = (detail) =>
  previews && (!detail || (detail.file.preview !== false && (detail.file.exists || !served)));

/**
 * @param {object} edit With the `revision` that the page shows; the server refuses what is not meant for another one,
 *   and then the payload of the refusal has `annotations` as they are.
 * @returns {Promise<Annotations>}
 */
export const annotate = (edit) => post("api/annotate", edit);

/** @returns {Promise<{folder: string, links: number, missing: number}>} */
export const makeLinks = (labelling) => post("api/export/links", { labelling });

/**
 * What was found: by each model or feature space, videos with their similarity (of texts) or distance (of files).
 * @typedef {{found: {by: string, videos: [number, number][]}[]}} Found
 */

/** @returns {Promise<Found>} */
export const findByText = (text) => post("api/find/text", { text });

/** @param {File} file @returns {Promise<Found>} */
export const findByFile = (file) =>
  send(`api/find/file?name=${encodeURIComponent(file.name.replace(/[\ud800-\udfff]/gu, "_"))}`, "application/octet-stream", file);

const post = (url, body) => send(url, "application/json", JSON.stringify(body));

const send = (url, type, body) =>
  ask(url, { method: "POST", headers: { "Content-Type": type, "X-Selavi-Token": page.token ?? "" }, body });

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    gone.value = true;
    throw new Refusal("selavi browse is not running any more.");
  }
  gone.value = false;
  const payload = await answer.json().catch(() => null);
  if (!answer.ok || payload === null) {
    throw new Refusal(payload?.error ?? `The server answered ${answer.status} to ${url}.`, payload);
  }
  return payload;
}

const waiting = new Map();

globalThis.selaviData = (name, payload) => {
  waiting.get(name)?.(payload);
  waiting.delete(name);
};

function readScript(name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    waiting.set(name, resolve);
    script.src = `data/${name}.js`;
    script.onload = () => {
      script.remove();
      if (waiting.delete(name)) reject(new Refusal(`data/${name}.js does not hold what it should.`));
    };
    script.onerror = () => {
      script.remove();
      waiting.delete(name);
      reject(new Refusal(`data/${name}.js is missing beside this page.`));
    };
    document.head.append(script);
  });
}
