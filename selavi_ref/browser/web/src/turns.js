/**
 * Pictures are loaded a few at a time, since a browser opens six connections to a server, and data, edits and sound must
 * never wait for pictures. Those that can be seen come first, and of these the ones that were asked for last.
 */

const AT_ONCE = 4;

/** @type {{image: HTMLImageElement, start: () => void, round: number, far: number}[]} */
let waiting = [];
let running = 0;
let rounds = 0;
let soon = 0;
let sorted = false;

addEventListener("scroll", () => (sorted = false), { passive: true, capture: true });

/**
 * Loads a picture when its turn comes.
 * @param {HTMLImageElement} image
 * @param {string} url
 * @param {(arrived: boolean) => void} done
 * @returns {() => void} Gives it up; then `done` is not called.
 */
export function loadInTurn(image, url, done) {
  let state = "waiting";
  const leave = () => {
    if (state === "running") running--;
    state = "over";
    image.onload = image.onerror = null;
    callSoon();
  };
  const settle = (arrived) => {
    leave();
    done(arrived);
  };
  const start = () => {
    state = "running";
    running++;
    image.onload = () => settle(true);
    image.onerror = () => settle(false);
    image.src = url;
    // One that the browser has in memory takes no turn.
    if (image.complete && image.naturalWidth) settle(true);
  };
  const entry = { image, start, round: rounds, far: 0 };
  waiting.push(entry);
  sorted = false;
  callSoon();
  return () => {
    if (state === "over") return;
    if (state === "waiting") waiting = waiting.filter((other) => other !== entry);
    leave();
    // The request of a picture that is no longer wanted is given up.
    if (!image.complete) image.removeAttribute("src");
  };
}

/** All that ask in one moment are looked at together. */
function callSoon() {
  if (waiting.length) soon ||= setTimeout(call);
}

function call() {
  soon = 0;
  rounds++;
  while (waiting.length && running < AT_ONCE) {
    if (!sorted) sort();
    waiting.shift().start();
  }
}

function sort() {
  for (const entry of waiting) entry.far = distance(entry.image.getBoundingClientRect());
  waiting.sort((a, b) => a.far - b.far || b.round - a.round);
  sorted = true;
}

/** How far something is outside of the window. */
function distance({ top, bottom, left, right }) {
  return Math.max(0, -bottom, top - innerHeight) + Math.max(0, -right, left - innerWidth);
}
