/** Keyboard shortcuts, and the definitions of the measures. */
import { previews, searches, served } from "../data.js";
import { keysOn, switchKeys } from "../keyboard.js";
import { collection } from "../store.js";
import { Dialog } from "./dialog.jsx";

const GROUPS = [
  ["Anywhere", [
    ["/", "search"],
    ["g then c", "clusters"],
    ["g then m", "map", "map"],
    ["g then f", "find by a text or a file", "searches"],
    ["g then n", "videos to look at next", "edits"],
    ["p", "play or pause thumbnails"],
    ["Escape", "close a dialog, stop the sound, clear the selection"],
    ["?", "show this help"],
  ]],
  ["In lists of videos and clusters", [
    ["← ↑ → ↓", "move; also Home, End, Page up and down"],
    ["Enter", "open"],
    ["s", "sound on or off", "previews"],
  ]],
  ["Editing", [
    ["x", "select; with Shift, select a range"],
    ["w", "mark as wrong, or remove the mark"],
    ["m", "move to another cluster; on a cluster, merge"],
    ["r", "rename the cluster"],
    ["a", "accept the first proposed name"],
    ["u", "undo; with Shift, redo"],
    ["Ctrl a", "select all videos"],
  ], "edits"],
  ["On the page of videos to look at next", [
    ["← ↑ → ↓", "previous and next video"],
    ["y", "the label is right"],
    ["o", "the second most probable label is right"],
  ], "edits"],
  ["On the page of a video", [["← →", "previous and next video of the cluster"]]],
  ["On the map", [
    ["← ↑ → ↓", "move the map; the video at the crosshair is named"],
    ["+ −", "zoom in, zoom out"],
    ["0", "show the whole map"],
    ["Enter", "open the video at the crosshair"],
    ["Shift drag", "select videos by drawing around them", "edits"],
  ], "map"],
];

const isThere = ([, , needs]) => !needs || { edits: served, previews, searches, map: collection.value?.map }[needs];

/** "g then c": two keys. */
function Keys({ text }) {
  return text.split(/( then )/).map((part) => (part === " then " ? part : <kbd key={part}>{part}</kbd>));
}

export function Help() {
  return (
    <Dialog title="Keyboard shortcuts" class="help">
      <div class="help-groups">
        {GROUPS.filter(isThere).map(([title, keys]) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.filter(isThere).map(([key, what]) => (
                <div key={key}>
                  <dt><Keys text={key} /></dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <label class="check">
        <input type="checkbox" checked={keysOn.value} onChange={(event) => switchKeys(event.currentTarget.checked)} />
        Use single-letter shortcuts
      </label>
      <section class="help-figures">
        <h3>Measures</h3>
        <p>
          <b>Confidence</b> is the posterior probability of a video’s label; for a cluster, the mean over its videos.{" "}
          <b>Uncertainty</b> is the entropy of the posterior, in nats: 0 when one cluster has probability 1.{" "}
          <b>Purity</b> is the fraction of a cluster’s most common class among its videos with a known class;{" "}
          <b>class entropy</b> is the entropy of these classes: 0 when there is only one. True classes are used for these
          two measures only.
        </p>
      </section>
    </Dialog>
  );
}
