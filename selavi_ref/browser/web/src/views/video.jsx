/** One video: played, with its label, the labels of all heads, its posterior, and the videos most like it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { NONE, effectiveLabel, titleOf } from "../clusters.js";
import { colourOf } from "../colours.js";
import { loadDetail, mayHavePreview, previews, served } from "../data.js";
import { useKeys } from "../keyboard.js";
import { Bar } from "../parts/bars.jsx";
import { ClusterLink, Dot, clusterPath } from "../parts/cluster_name.jsx";
import { Figure, Heading } from "../parts/heading.jsx";
import { Icon } from "../parts/icons.jsx";
import { VideoActions } from "../parts/selection.jsx";
import { Tile, marksOf } from "../parts/tile.jsx";
import { Timeline } from "../parts/timeline.jsx";
import { go, link } from "../route.js";
import { segmentOf } from "../segments.js";
import { askMove, clustering, collection, editsOf, labelling, labellingName, nameOfVideo, toggleSound, toggleWrong } from "../store.js";
import { Name, baseName, count, duration, fileSize, share, visible } from "../text.jsx";

export function VideoView({ video }) {
  const { detail, failed } = useDetail(video);
  const path = collection.value.videos.path[video];
  const { before, after, place, size } = neighboursInCluster(video);
  const goTo = (other) => (other === null ? false : go(link(`video/${other}`)));
  useKeys({
    ArrowLeft: () => !inPlayer() && goTo(before),
    ArrowRight: () => !inPlayer() && goTo(after),
    ...(served && {
      w: () => toggleWrong([video]),
      m: () => askMove([video]),
    }),
  });
  return (
    <div class="video-view" data-video={video}>
      <nav class="crumbs" aria-label="Videos of this cluster">
        <ClusterLink id={clustering.value.of[video]} />
        <span class="quiet">
          {count(place + 1)} of {count(size)}
        </span>
        <span class="spring" />
        <Step to={before} icon="left" title="Previous" />
        <Step to={after} icon="right" title="Next" />
      </nav>
      <div class="video-columns">
        <div class="video-main">
          <Player video={video} detail={detail} waiting={!detail && !failed} />
          <Heading title={baseName(path)} class="video-title">
            <Name>{baseName(path)}</Name>
          </Heading>
          <p class="path">
            <bdi>{visible(path)}</bdi>
          </p>
          <Facts video={video} detail={detail} />
        </div>
        <aside class="video-side" aria-label="Labels">
          <Label video={video} />
          {detail && <Posterior video={video} detail={detail} />}
          {detail && <Heads video={video} detail={detail} />}
          {failed && <p class="quiet">{visible(failed)}</p>}
          {!collection.value.details && (
            <p class="quiet">A table of labels has no probabilities and no similar videos.</p>
          )}
        </aside>
      </div>
      {detail && <Neighbours detail={detail} />}
    </div>
  );
}

function useDetail(video) {
  const [state, setState] = useState({ detail: null, failed: null });
  useEffect(() => {
    let wanted = true;
    loadDetail(video).then(
      (detail) => wanted && setState({ detail, failed: null }),
      (error) => wanted && setState({ detail: null, failed: collection.value.details ? error.message : "" }),
    );
    return () => {
      wanted = false;
    };
  }, [video]);
  return state;
}

const inPlayer = () => document.activeElement?.tagName === "VIDEO";

function neighboursInCluster(video) {
  const { of, byId } = clustering.value;
  const { members } = byId.get(of[video]);
  const place = members.indexOf(video);
  return { before: members[place - 1] ?? null, after: members[place + 1] ?? null, place, size: members.length };
}

function Step({ to, icon, title }) {
  const inside = (
    <>
      {icon === "left" && <Icon name={icon} />}
      <span class="step-text">{title}</span>
      {icon === "right" && <Icon name={icon} />}
    </>
  );
  if (to === null) {
    return (
      <span class="button" aria-disabled="true">
        {inside}
      </span>
    );
  }
  return (
    <a class="button" href={link(`video/${to}`)} title={`${title} of this cluster (${icon === "left" ? "←" : "→"})`}>
      {inside}
    </a>
  );
}

/* The picture */

/** What can be tried, best first. What is known not to be there is not asked for. */
function sourcesOf(video, detail) {
  const there = !detail || detail.file.exists;
  return [
    served && there && { url: `media/video/${video}${fragmentOf(video)}`, preview: false },
    mayHavePreview(detail) && { url: `media/preview/${video}.mp4`, preview: true },
  ].filter(Boolean);
}

function Player({ video, detail, waiting }) {
  const [tried, setTried] = useState(0);
  const sources = sourcesOf(video, detail);
  const source = sources[tried];
  const player = useRef(null);
  if (waiting) return <div class="player" />;
  if (!source) {
    return (
      <div class="player player-none" role="status">
        <p>{whyNot(detail)}</p>
      </div>
    );
  }
  return (
    <>
      <div class="player">
        <Picture key={source.url} player={player} url={source.url} video={video} onFail={() => setTried(tried + 1)} />
        {source.preview && served && <p class="player-note">This is a preview: the browser cannot play the original file.</p>}
      </div>
      <Timeline video={video} seconds={detail?.file.seconds} player={source.preview ? NOT_IN_STEP : player} />
    </>
  );
}

/** A preview has times of its own. */
const NOT_IN_STEP = { current: null };

/** The part of the address by which a browser plays a segment and stops at its end. */
function fragmentOf(video) {
  const segment = segmentOf(collection.value.videos.path[video]);
  if (!segment) return "";
  return `#t=${segment.start}${segment.end < Infinity ? `,${segment.end}` : ""}`;
}

function whyNot(detail) {
  if (served && detail && !detail.file.exists) return "The file does not exist any more.";
  return previews ? "This video cannot be played." : "This page was exported without previews.";
}

function Picture({ player, url, video, onFail }) {
  useEffect(() => {
    const element = player.current;
    const fail = () => onFail();
    const arrived = () => {
      // A file whose sound alone can be decoded is no success while the preview may show the picture.
      if (!element.videoWidth && !url.includes("preview") && hasPicture(video)) fail();
    };
    element.addEventListener("error", fail);
    element.addEventListener("loadedmetadata", arrived);
    element.src = url;
    return () => {
      element.removeEventListener("error", fail);
      element.removeEventListener("loadedmetadata", arrived);
      element.pause();
      element.removeAttribute("src");
      element.load();
    };
  }, [url]);
  useKeys({
    s: () => {
      const element = player.current;
      if (element.paused) element.play().catch(() => {});
      else element.pause();
    },
  });
  return <video ref={player} controls playsInline preload="metadata" aria-label={`Video ${nameOfVideo(video)}`} />;
}

const hasPicture = (video) => {
  const { modalities, videos } = collection.value;
  return modalities[videos.modalities[video]].includes("video");
};

/* What is known */

function Facts({ video, detail }) {
  const { videos, classes, modalities } = collection.value;
  const kind = videos.class[video];
  const { bytes = null, seconds = null, width = null, height = null, exists = false } = detail?.file ?? {};
  const rests = modalities[videos.modalities[video]];
  return (
    <dl class="figures figures-facts">
      {kind >= 0 && <Figure title="true class" value={<Name>{classes[kind]}</Name>} />}
      {rests && <Figure title="label based on" value={rests.replace("video", "picture").replace("audio", "sound").replace("+", " and ")} />}
      {seconds !== null && <Figure title="length" value={duration(seconds)} />}
      {width !== null && height !== null && <Figure title="size" value={`${width} × ${height}`} />}
      {exists && bytes > 0 && <Figure title="file" value={fileSize(bytes)} />}
    </dl>
  );
}

function Label({ video }) {
  const { of } = clustering.value;
  const cluster = of[video];
  const marks = marksOf(video);
  const { title } = collection.value.labellings.find(({ name }) => name === labellingName.value);
  const given = labelling.value.label[video];
  return (
    <section class="panel" aria-labelledby="label-title">
      <h2 id="label-title">Label</h2>
      <p class="label-line">
        <ClusterLink id={cluster} />
        {marks.map((mark) => (
          <span key={mark} class={`mark mark-${mark}`}>
            {mark}
          </span>
        ))}
      </p>
      <p class="quiet">
        {visible(title)}
        {given >= 0 && labelling.value.confidence[video] !== null && `, confidence ${share(labelling.value.confidence[video])}`}
        {clustering.value.moved.has(video) && given >= 0 && `; before it was moved, ${titleOf(given)}`}
      </p>
      {cluster === NONE && <p class="reason">{visible(collection.value.videos.reason[video] ?? "Unknown reason.")}</p>}
      {served && (
        <div class="panel-actions">
          <VideoActions videos={[video]} />
        </div>
      )}
    </section>
  );
}

/** The probabilities of the present labelling; clusters that were merged are one. */
function Posterior({ detail }) {
  const pairs = detail.posterior?.[labellingName.value];
  if (!pairs?.length) return null;
  const sums = new Map();
  for (const [cluster, p] of pairs) {
    const root = clustering.value.merged.get(cluster) ?? cluster;
    sums.set(root, (sums.get(root) ?? 0) + p);
  }
  return (
    <section class="panel" aria-labelledby="posterior-title">
      <h2 id="posterior-title">Probabilities</h2>
      <ul class="bars bars-probabilities">
        {[...sums].sort((a, b) => b[1] - a[1]).map(([cluster, p]) => (
          <li key={cluster} data-cluster-bar={cluster}>
            <Bar
              name={clustering.value.byId.get(cluster)?.title ?? titleOf(cluster)}
              part={p}
              figure={small(p)}
              colour={colourOf(cluster)}
              href={link(clusterPath(cluster))}
            />
          </li>
        ))}
      </ul>
    </section>
  );
}

const small = (p) => (p > 0 && p < 0.005 ? "<0.01" : share(p));

function Heads({ video, detail }) {
  if (!detail.heads?.length) return null;
  return (
    <section class="panel" aria-labelledby="heads-title">
      <h2 id="heads-title">Heads</h2>
      <table class="table table-small">
        <caption class="visually-hidden">The label of each head</caption>
        <thead>
          <tr>
            <th scope="col">Head</th>
            <th scope="col">Label</th>
            <th scope="col" class="column-confidence">
              Confidence
            </th>
          </tr>
        </thead>
        <tbody>
          {detail.heads.map((head) => (
            <HeadRow key={head.name} video={video} head={head} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function HeadRow({ video, head: { name, label, confidence } }) {
  const edits = editsOf(name);
  const cluster = effectiveLabel(label, video, edits);
  const known = collection.value.labellings.find((one) => one.name === name);
  const href = `#/${clusterPath(cluster)}?labelling=${encodeURIComponent(name)}`;
  const inside = (
    <>
      <Dot id={cluster} />
      <Name>{titleOf(cluster, edits.names?.[cluster])}</Name>
    </>
  );
  return (
    <tr data-head={name} data-present={name === labellingName.value || undefined}>
      <th scope="row">{visible(known?.title ?? `head ${name}`)}</th>
      <td>{known ? <a class="cluster-link" href={href}>{inside}</a> : <span class="cluster-link">{inside}</span>}</td>
      <td class="number">{label < 0 ? "–" : share(confidence)}</td>
    </tr>
  );
}

const KINDS = { video: "Most similar by picture", audio: "Most similar by sound" };

function Neighbours({ detail }) {
  const kinds = Object.entries(detail.neighbours ?? {}).filter(([, pairs]) => pairs.length > 0);
  return kinds.map(([kind, pairs]) => (
    <section key={kind} class="neighbours" data-neighbours={kind} aria-labelledby={`neighbours-${kind}`}>
      <h2 id={`neighbours-${kind}`}>
        {KINDS[kind] ?? `Most similar by ${kind}`} <span class="quiet">with distances</span>
      </h2>
      <NeighbourRow pairs={pairs} />
    </section>
  ));
}

function NeighbourRow({ pairs }) {
  const row = useRef(null);
  const [at, setAt] = useState(0);
  const onKeyDown = (event) => {
    if (!event.target.matches("[data-place]")) return;
    const place = Number(event.target.dataset.place);
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: pairs.length - 1 }[event.key];
    if (event.key === "Enter") go(link(`video/${pairs[place][0]}`));
    else if (to !== undefined) row.current.querySelector(`[data-place="${to}"]`)?.focus();
    else return;
    event.preventDefault();
  };
  useKeys({
    s: () => {
      const place = row.current.contains(document.activeElement) && document.activeElement.dataset.place;
      return place ? toggleSound(pairs[Number(place)][0]) : false;
    },
  });
  return (
    <ul class="neighbour-row" ref={row} onKeyDown={onKeyDown} onFocusIn={(event) => event.target.dataset.place && setAt(Number(event.target.dataset.place))}>
      {pairs.map(([video, distance], place) => (
        <li key={video}>
          <Tile
            video={video}
            note={`${distance.toFixed(3)} · ${visible(clustering.value.byId.get(clustering.value.of[video])?.title ?? "")}`}
            role="group"
            data-place={place}
            tabIndex={place === at ? 0 : -1}
          />
        </li>
      ))}
    </ul>
  );
}
