/**
 * Where one was on each page of the history: going back finds the same part of it and the same focus; going on begins
 * at the top, with the focus on the heading, so that screen readers say where one is.
 */
import { effect } from "@preact/signals";
import { clearSelection, renaming, sounding } from "./store.js";
import { route } from "./route.js";

const TRIES = 40;
const places = new Map();

export function keepPlaces() {
  history.scrollRestoration = "manual";
  let before = null;
  effect(() => {
    const { view, id, key } = route.value;
    const now = { page: `${view}/${id}`, key };
    if (before && before.key !== key) places.set(before.key, { y: scrollY, focus: addressOf(document.activeElement) });
    if (before && before.page !== now.page) {
      clearSelection();
      renaming.value = null;
      sounding.value = null;
      const place = places.get(key);
      requestAnimationFrame(() => arrive(key, place ?? { y: 0, focus: "h1" }, TRIES));
    }
    before = now;
  });
}

/** A selector that will find an element like this one again. */
function addressOf(element) {
  const marked = element?.closest?.("[data-video], [data-cluster]");
  if (!marked) return null;
  const { video, cluster } = marked.dataset;
  return video === undefined ? `[data-cluster="${cluster}"] [data-rove]` : `[data-at][data-video="${video}"]`;
}

/** What is on the page may come only after some frames. */
function arrive(key, { y, focus }, tries) {
  if (route.peek().key !== key) return;
  scrollTo({ top: y, behavior: "instant" });
  const target = focus ? document.querySelector(focus) : null;
  const there = Math.abs(scrollY - y) < 2 && (!focus || target);
  if (target && there) target.focus({ preventScroll: true });
  else if (!there && tries > 0) requestAnimationFrame(() => arrive(key, { y, focus }, tries - 1));
}
