/** All keys, and what the figures mean. */
import { previews, served } from "../data.js";
import { keysOn, switchKeys } from "../keyboard.js";
import { collection } from "../store.js";
import { Dialog } from "./dialog.jsx";

const GROUPS = [
  ["Anywhere", [
    ["/", "search"],
    ["g then c", "clusters"],
    ["g then m", "map", "map"],
    ["p", "thumbnails move, or stand still"],
    ["Escape", "close, stop the sound, clear the selection"],
    ["?", "this help"],
  ]],
  ["Among videos and clusters", [
    ["← ↑ → ↓", "move; also Home, End, Page up and down"],
    ["Enter", "open"],
    ["s", "sound on or off", "previews"],
  ]],
  ["Editing", [
    ["x", "select; with Shift, all from the last one to here"],
    ["w", "mark as wrong, or take the mark away"],
    ["m", "move to another cluster; on a cluster, merge"],
    ["r", "rename the cluster"],
    ["u", "undo; with Shift, redo"],
    ["Ctrl a", "select all videos of a grid"],
  ], "edits"],
  ["On the page of a video", [["← →", "previous, next of its cluster"]]],
  ["On the map", [
    ["← ↑ → ↓", "move the picture; the video at the cross is named"],
    ["+ −", "nearer, farther"],
    ["0", "all of it"],
    ["Enter", "open the video at the cross"],
    ["Shift drag", "select videos by drawing around them", "edits"],
  ], "map"],
];

const isThere = ([, , needs]) => !needs || { edits: served, previews, map: collection.value?.map }[needs];

/** "g then c": two keys. */
function Keys({ text }) {
  return text.split(/( then )/).map((part) => (part === " then " ? part : <kbd key={part}>{part}</kbd>));
}

export function Help() {
  return (
    <Dialog title="Keys" class="help">
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
        Single letters are keys
      </label>
      <section class="help-figures">
        <h3>Figures</h3>
        <p>
          <b>Confidence</b> is the probability that the networks give to a video’s label; of a cluster, the mean over its
          videos. <b>Uncertainty</b> is the entropy, in nats, of the probabilities of all clusters: 0 when there is no
          doubt. <b>Purity</b> is the share of a cluster’s most common class among its videos whose class is known, and{" "}
          <b>class entropy</b> how mixed these classes are: 0 when there is one only. Classes serve for these figures alone.
        </p>
      </section>
    </Dialog>
  );
}
