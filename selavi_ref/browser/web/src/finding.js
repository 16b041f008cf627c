/** Videos that are similar to a text or to a file: what was asked for last, and what came of it. */
import { signal } from "@preact/signals";
import { findByFile, findByText, read } from "./data.js";
import { fileSize } from "./text.jsx";

/**
 * @typedef {object} Question
 * @property {"text" | "file"} kind
 * @property {string} what The text, or the name of the file.
 * @property {{by: string, videos: [number, number][]}[] | null} found Null while it is searched.
 * @property {string | null} failed Why nothing could be found.
 */

/** @type {import("@preact/signals").Signal<Question | null>} */
export const question = signal(null);

/** Why the server cannot search, and what files it takes; null until it is known. */
export const ability = signal(null);

export async function learnAbility() {
  try {
    ability.value = await read("search");
  } catch {
    // What is asked for later says what is wrong.
  }
}

export const askText = (text) => ask({ kind: "text", what: text }, () => findByText(text));

/** @param {File} file */
export function askFile(file) {
  return ask({ kind: "file", what: file.name }, async () => {
    await learnAbility();
    const largest = ability.value?.largest ?? Infinity;
    if (file.size > largest) throw new Error(`The file is larger than ${fileSize(largest)}.`);
    return findByFile(file);
  });
}

/** The answer to the question before is not shown once another one was asked. */
async function ask(asked, answer) {
  const mine = { ...asked, found: null, failed: null };
  question.value = mine;
  const show = (more) => question.value === mine && (question.value = { ...mine, ...more });
  try {
    const { found } = await answer();
    show({ found });
  } catch (error) {
    show({ failed: error.message });
  }
}
