/** The videos that a person should look at next: those of whose labels least is certain, with what can be said of each. */
import { useEffect, useRef, useState } from "preact/hooks";
import { NONE } from "../clusters.js";
import { read } from "../data.js";
import { useKeys } from "../keyboard.js";
import { ClusterLink, Dot } from "../parts/cluster_name.jsx";
import { Heading } from "../parts/heading.jsx";
import { Icon } from "../parts/icons.jsx";
import { Tile, marksOf } from "../parts/tile.jsx";
import { askMove, clustering, confirmLabel, labelling, labellingName, moveVideos, titleOfCluster, toggleSound, toggleWrong } from "../store.js";
import { counted, share, visible } from "../text.jsx";

export function NextView() {
  const [round, setRound] = useState(0);
  const { videos, failed } = useProposed(labellingName.value, round);
  const judged = videos?.filter((video) => marksOf(video).length > 0).length ?? 0;
  return (
    <div class="next-view">
      <header class="intro">
        <Heading title="Look at these next" />
        <p class="quiet">
          The videos of whose labels least is certain, and that nobody has judged yet. What you say is saved at once;{" "}
          <code>selavi update --learn</code> learns from it.
        </p>
      </header>
      {failed && <p class="notice find-notice">{visible(failed)}</p>}
      {videos?.length === 0 && (
        <p role="status">Nothing is left: every video with a label has been judged, or nothing says how certain labels are.</p>
      )}
      {videos?.length > 0 && (
        <>
          <div class="videos-head">
            <p class="tally" role="status">
              {judged} of {counted(videos.length, "video")} judged
            </p>
            <span class="spring" />
            <button type="button" class="button" onClick={() => setRound(round + 1)}>
              Show the next ones
            </button>
          </div>
          <List key={round} videos={videos} />
        </>
      )}
    </div>
  );
}

/** The videos stay the same while they are judged; another round asks for those that are left. */
function useProposed(name, round) {
  const [state, setState] = useState({ videos: null, failed: null });
  useEffect(() => {
    let wanted = true;
    read(`next-${encodeURIComponent(name)}`).then(
      ({ videos }) => wanted && setState({ videos, failed: null }),
      (error) => wanted && setState({ videos: null, failed: error.message }),
    );
    return () => {
      wanted = false;
    };
  }, [name, round]);
  return state;
}

function List({ videos }) {
  const list = useRef(null);
  const [at, setAt] = useState(0);
  const focused = () => {
    const place = document.activeElement?.closest?.("[data-next]");
    return place && list.current?.contains(place) ? Number(place.dataset.next) : null;
  };
  const about = (action) => () => {
    const place = focused();
    return place === null ? false : action(videos[place]);
  };
  useKeys({
    y: about((video) => void confirmLabel(video)),
    o: about((video) => (otherOf(video) === null ? false : void moveVideos([video], otherOf(video)))),
    w: about((video) => toggleWrong([video])),
    m: about((video) => askMove([video])),
    s: about((video) => toggleSound(video)),
  });
  const onKeyDown = (event) => {
    if (!event.target.matches("[data-next] > .tile")) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    list.current.querySelector(`[data-next="${at + step}"] > .tile`)?.focus();
    event.preventDefault();
  };
  return (
    <ul class="next-list" ref={list} onKeyDown={onKeyDown} onFocusIn={() => setAt(focused() ?? 0)}>
      {videos.map((video, place) => (
        <li key={video} class="next-item" data-next={place} data-judged={marksOf(video).length > 0 || undefined}>
          <Tile video={video} role="group" tabIndex={place === at ? 0 : -1} />
          <Judgement video={video} />
        </li>
      ))}
    </ul>
  );
}

/** The second most probable cluster of a video, if it is another one than that which the video is in. */
function otherOf(video) {
  const { merged, of, byId } = clustering.value;
  const second = labelling.value.runner_up[video];
  const cluster = merged.get(second) ?? second;
  return second === NONE || cluster === of[video] || !byId.has(cluster) ? null : cluster;
}

function Judgement({ video }) {
  const { of, wrong } = clustering.value;
  const other = otherOf(video);
  const confidence = labelling.value.confidence[video];
  return (
    <div class="next-say">
      <p class="label-line">
        <ClusterLink id={of[video]} />
        {confidence !== null && <span class="quiet">confidence {share(confidence)}</span>}
      </p>
      <div class="next-buttons">
        <button type="button" class="button" title="The label is right (y)" onClick={() => confirmLabel(video)}>
          <Icon name="check" /> Right
        </button>
        {other !== null && (
          <button type="button" class="button next-other" title="Its second most probable label is right (o)" onClick={() => moveVideos([video], other)}>
            <Dot id={other} /> <bdi>{titleOfCluster(other)}</bdi>
          </button>
        )}
        <button type="button" class="button" title="Move to another cluster (m)" onClick={() => askMove([video])}>
          <Icon name="move" /> Other …
        </button>
        <button type="button" class="button" aria-pressed={wrong.has(video)} title="Mark as wrong, or remove the mark (w)" onClick={() => toggleWrong([video])}>
          <Icon name="flag" /> Wrong
        </button>
      </div>
    </div>
  );
}
