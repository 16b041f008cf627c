/** Actions on the selected videos. */
import { askMove, canBeMarked, clearSelection, clustering, markWrong, selected } from "../store.js";
import { counted } from "../text.jsx";
import { Icon } from "./icons.jsx";

export function SelectionBar() {
  const videos = [...selected.value];
  if (!videos.length || !clustering.value) return null;
  return (
    <section class="selection-bar" aria-label="Selected videos">
      <span class="selection-count">{counted(videos.length, "video")}</span>
      <VideoActions videos={videos} />
      <button type="button" class="button" onClick={clearSelection} title="Clear the selection (Escape)">
        Clear
      </button>
    </section>
  );
}

export function VideoActions({ videos }) {
  const { wrong } = clustering.value;
  const marked = videos.filter((video) => wrong.has(video)).length;
  return (
    <>
      {canBeMarked(videos) && marked < videos.length && (
        <button type="button" class="button" onClick={() => markWrong(videos, true)} title="Mark as wrong (w)">
          <Icon name="flag" /> Mark wrong
        </button>
      )}
      {marked > 0 && (
        <button type="button" class="button" onClick={() => markWrong(videos, false)} title="Remove the mark (w)">
          <Icon name="flag" /> Not wrong
        </button>
      )}
      <button type="button" class="button" onClick={() => askMove(videos)} title="Move to another cluster (m)">
        <Icon name="move" /> Move to …
      </button>
    </>
  );
}
