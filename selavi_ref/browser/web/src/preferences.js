/** What a person prefers on this machine: theme, moving thumbnails. Kept in the browser, where it lets us. */
import { signal } from "@preact/signals";

const PREFIX = "selavi-";

export function remembered(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, value);
  } catch {
    // A page from a file may have no storage; the choice then holds until it is closed.
  }
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const prefersStill = matchMedia("(prefers-reduced-motion: reduce)");

/** "light" or "dark", as it is seen. */
export const theme = signal(remembered("theme") ?? systemTheme());

/** Whether thumbnails move by themselves. */
export const moving = signal(remembered("motion") === null ? !prefersStill.matches : remembered("motion") === "on");

export function switchTheme() {
  theme.value = theme.value === "dark" ? "light" : "dark";
  remember("theme", theme.value === systemTheme() ? null : theme.value);
}

export function switchMotion() {
  moving.value = !moving.value;
  remember("motion", moving.value === !prefersStill.matches ? null : moving.value ? "on" : "off");
}

function systemTheme() {
  return prefersDark.matches ? "dark" : "light";
}

prefersDark.addEventListener("change", () => {
  if (remembered("theme") === null) theme.value = systemTheme();
});
prefersStill.addEventListener("change", () => {
  if (remembered("motion") === null) moving.value = !prefersStill.matches;
});

/** Puts both on the root element, where the style sheet reads them. */
export function applyPreferences() {
  document.documentElement.dataset.theme = theme.value;
  document.documentElement.dataset.motion = moving.value ? "on" : "off";
}
