/**
 * One listener for the keys of the whole page. Views add the keys that they know with useKeys; the innermost is asked
 * first, and a handler that returns false passes the key on.
 */
import { useEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { remember, remembered } from "./preferences.js";

/** Single letters as keys can be turned off, for people who speak to their computer (WCAG 2.1.4). */
export const keysOn = signal(remembered("keys") !== "off");

export function switchKeys(on) {
  keysOn.value = on;
  remember("keys", on ? null : "off");
}

/** Inner components are drawn for the first time after the outer ones, and have higher ranks. */
const layers = [];
let ranks = 0;
const CHORD_MS = 1200;
let pending = null;

/**
 * Adds keys while a component is there.
 * @param {Record<string, (event: KeyboardEvent) => (boolean | void)>} keys "u", "Shift+u", "g c", "Escape", "?".
 */
export function useKeys(keys) {
  const layer = useRef(null);
  layer.current ??= { rank: ranks++ };
  layer.current.keys = keys;
  useEffect(() => {
    const { current } = layer;
    layers.push(current);
    layers.sort((a, b) => b.rank - a.rank);
    return () => layers.splice(layers.indexOf(current), 1);
  }, []);
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]") || isTyping(event.target)) return;
  const key = nameOf(event);
  const chord = pending && performance.now() - pending.at < CHORD_MS ? `${pending.key} ${key}` : null;
  pending = null;
  if (key.length === 1 && !keysOn.value) return;
  for (const name of chord ? [chord, key] : [key]) {
    if (name.length > 1 && !keysOn.value && /^(Shift\+)?\S$|^. .$/.test(name)) continue;
    for (const { keys } of [...layers]) {
      if (keys[name] && keys[name](event) !== false) {
        event.preventDefault();
        return;
      }
    }
  }
  if (key === "g") pending = { key, at: performance.now() };
});

function nameOf({ key, shiftKey }) {
  if (key.length === 1 && key.toLowerCase() !== key.toUpperCase()) {
    return shiftKey ? `Shift+${key.toLowerCase()}` : key.toLowerCase();
  }
  return key.length > 1 && shiftKey ? `Shift+${key}` : key;
}

const isTyping = (element) =>
  element instanceof HTMLElement &&
  (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName)) &&
  !/^(checkbox|radio|button)$/.test(element.type);
