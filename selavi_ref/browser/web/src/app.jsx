/** The frame of the page, and which view is in it. */
import { useEffect, useRef } from "preact/hooks";
import { gone, searches, served } from "./data.js";
import { useKeys } from "./keyboard.js";
import { DropPlace } from "./parts/drop.jsx";
import { Header } from "./parts/header.jsx";
import { Heading } from "./parts/heading.jsx";
import { Help } from "./parts/help.jsx";
import { Icon, IconButton } from "./parts/icons.jsx";
import { OpenDialog } from "./parts/picker.jsx";
import { SelectionBar } from "./parts/selection.jsx";
import { switchMotion } from "./preferences.js";
import { go, link, route } from "./route.js";
import { clearSelection, clustering, collection, dialog, message, problem, redo, selected, sounding, undo } from "./store.js";
import { visible } from "./text.jsx";
import { ClusterView } from "./views/cluster.jsx";
import { ClustersView } from "./views/clusters.jsx";
import { FindView } from "./views/find.jsx";
import { MapView } from "./views/map.jsx";
import { NextView } from "./views/next.jsx";
import { VideoView } from "./views/video.jsx";

export function App() {
  const main = useRef(null);
  useKeys({
    "?": () => (dialog.value = { kind: "help" }),
    "g c": () => go(link("clusters")),
    "g m": () => collection.value?.map && go(link("map")),
    ...(searches && { "g f": () => go(link("find")) }),
    ...(served && { "g n": () => go(link("next")) }),
    p: switchMotion,
    Escape: leaveOff,
    ...(served && { u: undo, "Shift+u": redo }),
  });
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
    main.current.scrollIntoView();
  };
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        Skip to content
      </a>
      <Header />
      <Notices />
      <main id="main" ref={main} tabIndex={-1}>
        {clustering.value ? <View /> : <Waiting />}
      </main>
      {searches && <DropPlace />}
      {served && <SelectionBar />}
      <Message />
      <OpenDialog help={Help} />
    </>
  );
}

/** Escape takes back one thing at a time. */
function leaveOff() {
  if (sounding.value !== null) sounding.value = null;
  else if (selected.value.size) clearSelection();
  else if (problem.value) problem.value = null;
  else return false;
  return true;
}

function View() {
  const { view, id } = route.value;
  if (view === "clusters") return <ClustersView />;
  if (view === "map" && collection.value.map) return <MapView />;
  if (view === "find" && searches) return <FindView />;
  if (view === "next" && served) return <NextView />;
  if (view === "cluster") {
    const cluster = id === "none" ? -1 : Number(id);
    if (id && Number.isInteger(cluster)) return <ClusterView key={id} id={cluster} />;
  }
  if (view === "video" && id && collection.value.videos.path[Number(id)] !== undefined) {
    return <VideoView key={id} video={Number(id)} />;
  }
  return <Missing />;
}

function Missing() {
  return (
    <div class="empty">
      <Heading title="Not found" />
      <p>
        There is no such cluster or video in this collection. <a href={link("clusters")}>All clusters</a>
      </p>
    </div>
  );
}

function Waiting() {
  if (problem.value) return null;
  return (
    <div class="empty" role="status">
      <p class="quiet waiting">Loading …</p>
    </div>
  );
}

function Notices() {
  return (
    <>
      {gone.value && (
        <p class="notice notice-gone" role="alert">
          selavi browse is not running any more. You can still look around, but edits cannot be saved.
        </p>
      )}
      {problem.value && !(gone.value && clustering.value) && (
        <p class="notice" role="alert">
          <span>{visible(problem.value)}</span>
          <IconButton icon="cross" label="Close this message" onClick={() => (problem.value = null)} />
        </p>
      )}
    </>
  );
}

const SHOWN_MS = 8000;

/** What was just done; it is read out, and goes after a while. */
function Message() {
  const { text, undoable, at } = message.value ?? {};
  useEffect(() => {
    if (!at) return undefined;
    const timer = setTimeout(() => (message.value = null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [at]);
  return (
    <div class="message-place" role="status" aria-live="polite">
      {text && (
        <p class="message" key={at}>
          <span>
            {text}
            {undoable && <span class="visually-hidden"> Undo: u.</span>}
          </span>
          {undoable && (
            <button type="button" class="message-undo" onClick={undo}>
              <Icon name="undo" /> Undo <kbd aria-hidden="true">u</kbd>
            </button>
          )}
        </p>
      )}
    </div>
  );
}
