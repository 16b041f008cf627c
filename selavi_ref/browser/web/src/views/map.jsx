/** All videos as points: moved and enlarged by mouse, touch and keys, coloured by cluster, class or confidence. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { NONE } from "../clusters.js";
import { colourOf, pixelOf, rampOf } from "../colours.js";
import { load, read, served } from "../data.js";
import { useKeys } from "../keyboard.js";
import { Dot } from "../parts/cluster_name.jsx";
import { VideoGrid } from "../parts/grid.jsx";
import { Heading } from "../parts/heading.jsx";
import { Icon, IconButton } from "../parts/icons.jsx";
import { Legend, colouringBy, useHidden } from "../parts/legend.jsx";
import { Strip } from "../parts/strip.jsx";
import { followPointers } from "../pointers.js";
import { theme } from "../preferences.js";
import { go, link, route, setQuery } from "../route.js";
import { makeScatter, placesOf } from "../scatter.js";
import { askMove, clustering, collection, labelling, nameOfVideo, selected, targets, toggleSelected, toggleWrong } from "../store.js";
import { Name, counted, share, visible } from "../text.jsx";

const POLL_MS = 1000;
const REACH = 12;
const REACH_OF_CROSS = 120;
const PAPER = { light: "#ffffff", dark: "#101012" };
const FAINT = { light: "#dddad4", dark: "#2b2b2f" };
const INK = { light: "#1d1c1a", dark: "#f2f0ec" };
const WHOLE = { x: 0.5, y: 0.5, zoom: 1 };

export function MapView() {
  const { places, by, state } = useMap();
  return (
    <div class="map-view">
      <header class="map-head">
        <Heading title="Map" />
        <p class="quiet" id="map-text">
          Each point is a video; the nearer two are, the more alike they are to the networks
          {by && ` (${visible(by)})`}. The same groups as text: <a href={link("clusters")}>all clusters</a>.
        </p>
      </header>
      {places ? <Picture places={places} /> : <Waiting state={state} />}
    </div>
  );
}

/** The places, once they are known; until then how far the server is, or why there will be none. */
function useMap() {
  const [answer, setAnswer] = useState(null);
  useEffect(() => {
    let timer = null;
    let wanted = true;
    const ask = async () => {
      try {
        const payload = served ? await read("map") : await load("map");
        if (!wanted) return;
        setAnswer(payload);
        if (payload.computing) timer = setTimeout(ask, POLL_MS);
      } catch (error) {
        if (wanted) setAnswer({ failed: error.message });
      }
    };
    ask();
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, []);
  const places = useMemo(() => (answer?.x ? placesOf(answer) : null), [answer]);
  return { places, by: answer?.by, state: answer ?? {} };
}

function Waiting({ state }) {
  if (state.failed) {
    return (
      <div class="empty" role="status">
        <p>There is no map: {visible(state.failed)}</p>
      </div>
    );
  }
  const { done = null } = state;
  return (
    <div class="empty">
      <label class="progress">
        <span>Computing the map …</span>
        {done === null ? <progress /> : <progress value={done} max="1" />}
      </label>
    </div>
  );
}

/* The picture */

function Picture({ places }) {
  const colouring = colouringBy(route.value.query.get("colour"));
  const hidden = useHidden();
  const [raised, setRaised] = useState(null);
  const [shown, setShown] = useState(null);
  const [lassoing, setLassoing] = useState(false);
  const look = useLook(colouring, hidden, raised);
  const place = useRef(null);
  const map = useScatter(place, places, look, { setShown, lassoing });
  useMapKeys(shown);

  return (
    <>
      <div class="map-place">
        <div class="map-picture" ref={place} data-lasso={lassoing || undefined}>
          <canvas
            tabIndex={0}
            role="application"
            aria-roledescription="map"
            aria-label={`Map of ${counted(places.x.length, "video")}`}
            aria-describedby="map-text"
            onKeyDown={(event) => onMapKey(event, map, shown)}
          />
          <svg class="map-lasso" aria-hidden="true">
            <path d="" />
          </svg>
          {shown?.byKey && <span class="map-cross" aria-hidden="true" />}
          {shown && shown.video !== null && <Spot shown={shown} />}
          <div class="map-tools">
            {served && (
              <button
                type="button"
                class="icon-button"
                aria-pressed={lassoing}
                aria-label="Select videos by drawing around them"
                title="Lasso selection (Shift and drag)"
                onClick={() => setLassoing(!lassoing)}
              >
                <Icon name="lasso" />
              </button>
            )}
            <IconButton icon="plus" label="Zoom in" hint="Zoom in (+)" onClick={() => map.current.zoomBy(1.5)} />
            <IconButton icon="minus" label="Zoom out" hint="Zoom out (−)" onClick={() => map.current.zoomBy(1 / 1.5)} />
            <IconButton icon="whole" label="Show the whole map" hint="Show the whole map (0)" onClick={() => map.current.see(WHOLE)} />
          </div>
          <p class="visually-hidden" role="status">
            {shown?.byKey ? spokenOf(shown.video) : ""}
          </p>
        </div>
        <Legend colouring={colouring} hidden={hidden} onRaise={setRaised} />
      </div>
      {selected.value.size > 0 && <Selected />}
    </>
  );
}

function Selected() {
  const videos = [...selected.value];
  return (
    <section class="map-selected" aria-labelledby="selected-title">
      <h2 id="selected-title">{counted(videos.length, "selected video")}</h2>
      <VideoGrid videos={videos} label="Selected videos" />
    </section>
  );
}

const spokenOf = (video) => {
  if (video === null) return "No video is near the crosshair.";
  const cluster = clustering.value.byId.get(clustering.value.of[video]);
  return `${nameOfVideo(video)}, ${visible(cluster.title)}`;
};

/** The point under the mouse or the cross: a ring, and beside it what video it is. */
function Spot({ shown: { video, x, y, width, height } }) {
  const cluster = clustering.value.byId.get(clustering.value.of[video]);
  const { videos, classes } = collection.value;
  const kind = videos.class[video];
  const style = {
    left: `${x > width / 2 ? Math.max(8, x - 196) : x + 16}px`,
    top: `${Math.min(Math.max(8, y - 60), Math.max(8, height - 236))}px`,
  };
  return (
    <>
      <span class="map-ring" style={{ left: `${x}px`, top: `${y}px` }} aria-hidden="true" />
      <div class="map-card" style={style} data-video={video}>
        <span class="map-card-picture">
          <Strip key={video} video={video} />
        </span>
        <span class="tile-name">{nameOfVideo(video)}</span>
        <span class="cluster-link">
          <Dot id={cluster.id} />
          <Name>{cluster.title}</Name>
        </span>
        <span class="tile-note">
          {cluster.id !== NONE && `confidence ${share(labelling.value.confidence[video])}`}
          {kind >= 0 && ` · ${visible(classes[kind])}`}
        </span>
      </div>
    </>
  );
}

/* What is drawn how */

/** @returns {import("../scatter.js").Look} */
function useLook({ name, of }, hidden, raised) {
  const shade = theme.value;
  const chosen = selected.value;
  const { confidence } = labelling.value;
  return useMemo(() => {
    const total = collection.value.videos.path.length;
    const paint = new Uint32Array(total);
    const level = new Uint8Array(total);
    const faint = pixelOf(FAINT[shade]);
    const ramp = Array.from({ length: 101 }, (_, step) => pixelOf(rampOf(step / 100)));
    const colours = new Map();
    const colour = (group) => {
      if (!colours.has(group)) colours.set(group, pixelOf(colourOf(group)));
      return colours.get(group);
    };
    for (let video = 0; video < total; video++) {
      if (of && hidden.has(of[video])) continue;
      const alone = !of || raised === null || of[video] === raised;
      if (!alone) paint[video] = faint;
      else paint[video] = of ? colour(of[video]) : ramp[Math.round(100 * (confidence[video] || 0))];
      level[video] = chosen.has(video) ? 2 : alone ? 1 : 0;
    }
    return { paint, level, paper: pixelOf(PAPER[shade]), ink: pixelOf(INK[shade]) };
  }, [name, of, hidden, raised, shade, chosen, confidence]);
}

/** Draws, and lets pointers move the picture. What it returns can be told to move it by keys. */
function useScatter(place, places, look, { setShown, lassoing }) {
  const map = useRef(null);
  const now = useRef({ look, lassoing });
  now.current = { look, lassoing };

  useLayoutEffect(() => {
    const canvas = place.current.querySelector("canvas");
    const scatter = makeScatter(canvas, places);
    let eye = eyeFrom(route.peek().query.get("at"));
    let asked = 0;
    let kept = null;
    const paint = () => {
      asked = 0;
      scatter.draw(eye, now.current.look);
    };
    const redraw = () => {
      asked ||= requestAnimationFrame(paint);
    };
    const see = (next) => {
      const zoom = Math.min(200, Math.max(0.5, next.zoom));
      eye = { x: bounded(next.x), y: bounded(next.y), zoom };
      setShown(null);
      redraw();
      clearTimeout(kept);
      kept = setTimeout(() => setQuery({ at: eyeText(eye) }, { replace: true }), 400);
    };
    const show = (video, more = {}) => {
      if (video === null) return setShown(more.byKey ? { video: null, byKey: true } : null);
      const [x, y] = scatter.screenOf(video, eye);
      return setShown({ video, x, y, width: canvas.clientWidth, height: canvas.clientHeight, ...more });
    };
    map.current = {
      see,
      redraw,
      show,
      eye: () => eye,
      zoomBy: (factor, x, y) => see(nearer(scatter, canvas, eye, factor, x, y)),
      panBy: (dx, dy) => {
        const scale = scatter.scaleOf(eye);
        see({ ...eye, x: eye.x - dx / scale, y: eye.y - dy / scale });
      },
      pick: (x, y, reach = REACH) => scatter.pick(x, y, reach, eye, now.current.look),
      showMiddle: () =>
        show(scatter.pick(canvas.clientWidth / 2, canvas.clientHeight / 2, REACH_OF_CROSS, eye, now.current.look), { byKey: true }),
      select: (polygon) => toggleSelected(scatter.inside(polygon, eye, now.current.look), true),
      isLassoing: (event) => served && (event.shiftKey || now.current.lassoing),
      adopt: (text) => {
        if (text === eyeText(eye)) return;
        eye = eyeFrom(text);
        redraw();
      },
    };
    const fit = () => {
      scatter.resize();
      paint();
    };
    const sizes = new ResizeObserver(fit);
    sizes.observe(canvas);
    fit();
    const unfollow = followPointers(canvas, place.current.querySelector(".map-lasso path"), map.current);
    return () => {
      unfollow();
      sizes.disconnect();
      cancelAnimationFrame(asked);
      clearTimeout(kept);
    };
  }, [places]);

  useLayoutEffect(() => map.current.redraw(), [look]);
  const at = route.value.query.get("at");
  useEffect(() => map.current.adopt(at), [at]);
  return map;
}

const bounded = (part) => Math.min(1.1, Math.max(-0.1, part));
const eyeText = ({ x, y, zoom }) => (x === 0.5 && y === 0.5 && zoom === 1 ? null : `${x.toFixed(4)}_${y.toFixed(4)}_${zoom.toFixed(3)}`);

function eyeFrom(text) {
  const parts = (text ?? "").split("_").map(Number);
  if (parts.length !== 3 || parts.some((part) => !Number.isFinite(part)) || parts[2] <= 0) return WHOLE;
  return { x: bounded(parts[0]), y: bounded(parts[1]), zoom: Math.min(200, Math.max(0.5, parts[2])) };
}

/** The eye after zooming such that what is under a pixel stays under it. */
function nearer(scatter, canvas, eye, factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const zoom = Math.min(200, Math.max(0.5, eye.zoom * factor));
  const [u, v] = scatter.placeOf(x, y, eye);
  const scale = scatter.scaleOf({ ...eye, zoom });
  return { x: u - (x - canvas.clientWidth / 2) / scale, y: v - (y - canvas.clientHeight / 2) / scale, zoom };
}

/* Keys */

function onMapKey(event, map, shown) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const far = event.shiftKey ? 200 : 50;
  const pans = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
  const { key } = event;
  if (key in pans) map.current.panBy(...pans[key]);
  else if (key === "+" || key === "=") map.current.zoomBy(1.25);
  else if (key === "-" || key === "−") map.current.zoomBy(0.8);
  else if (key === "0") map.current.see(WHOLE);
  else if (key === "Enter" && typeof shown?.video === "number") {
    go(link(`video/${shown.video}`));
    event.preventDefault();
    return;
  } else return;
  event.preventDefault();
  map.current.showMiddle();
}

function useMapKeys(shown) {
  const here = () => (document.activeElement?.tagName === "CANVAS" ? (shown?.video ?? null) : null);
  const about = (action) => () => {
    const videos = targets(here());
    if (!videos.length) return false;
    action(videos);
    return true;
  };
  useKeys(
    served
      ? {
          x: () => (here() === null ? false : toggleSelected([here()])),
          w: about(toggleWrong),
          m: about(askMove),
        }
      : {},
  );
}
