/** One video in a grid: its thumbnail, its name, its marks; a box to select it and a button for its sound. */
import { useEffect, useRef } from "preact/hooks";
import { knownDetail, loadDetail, mayHavePreview, previews, served } from "../data.js";
import { link } from "../route.js";
import { clustering, collection, nameOfVideo, say, selected, silent, sounding, toggleSound } from "../store.js";
import { Name, baseName } from "../text.jsx";
import { Icon } from "./icons.jsx";
import { Strip } from "./strip.jsx";

/**
 * @param {object} props
 * @param {string} [props.note] A line under the name.
 * @param {(event: MouseEvent) => void} [props.onSelect] Without it there is no box.
 */
export function Tile({ video, note, onSelect, ...rest }) {
  const path = collection.value.videos.path[video];
  const name = nameOfVideo(video);
  const isSelected = selected.value.has(video);
  const marks = marksOf(video);
  const spoken = [name, note, ...marks, isSelected && "selected"].filter(Boolean).join(" ");
  return (
    <div class="tile" data-video={video} data-selected={isSelected || undefined} aria-label={spoken} {...rest}>
      <a class="tile-picture" href={link(`video/${video}`)} tabIndex={-1} aria-label={name} title={path && name}>
        {sounding.value === video ? <Sounding video={video} /> : <Strip video={video} />}
        {silent.value === video && <span class="tile-words">Cannot be played</span>}
      </a>
      {onSelect && served && (
        <label class="tile-box">
          <input
            type="checkbox"
            tabIndex={-1}
            checked={isSelected}
            aria-label={`Select ${name}`}
            onClick={(event) => onSelect(event)}
          />
        </label>
      )}
      {previews && <SoundButton video={video} />}
      <span class="tile-caption">
        <span class="tile-name">
          <Name>{baseName(path)}</Name>
        </span>{" "}
        {note && <span class="tile-note">{note}</span>}{" "}
      </span>
      {marks.length > 0 && (
        <span class="tile-marks">
          {marks.map((mark) => (
            <span key={mark} class={`mark mark-${mark}`}>{mark}</span>
          ))}
        </span>
      )}
    </div>
  );
}

/** "wrong", "moved", "confirmed". */
export function marksOf(video) {
  const { wrong, moved, confirmed } = clustering.value;
  return [wrong.has(video) && "wrong", moved.has(video) && "moved", confirmed.has(video) && "confirmed"].filter(Boolean);
}

export function SoundButton({ video, tabIndex = -1 }) {
  const on = sounding.value === video;
  return (
    <button
      type="button"
      class="sound-button"
      tabIndex={tabIndex}
      aria-pressed={on}
      aria-label={`Sound of ${nameOfVideo(video)}`}
      title={on ? "Stop (s)" : "Play with sound (s)"}
      onClick={() => toggleSound(video)}
    >
      <Icon name={on ? "stop" : "sound"} />
    </button>
  );
}

function Sounding({ video }) {
  const player = useRef(null);
  useEffect(() => {
    const element = player.current;
    let left = false;
    const stop = () => {
      if (sounding.peek() === video) sounding.value = null;
    };
    const fail = () => {
      if (sounding.peek() === video) {
        silent.value = video;
        say(`${nameOfVideo(video)} cannot be played.`);
      }
      stop();
    };
    element.addEventListener("ended", stop);
    element.addEventListener("error", fail);
    const play = (detail) => {
      if (left) return;
      if (!mayHavePreview(detail)) return void fail();
      element.src = `media/preview/${video}.mp4`;
      element.play().catch((error) => error.name !== "AbortError" && fail());
    };
    // A server works details out, which takes longer than to play; a folder has them at hand.
    if (served || knownDetail(video)) play(knownDetail(video));
    else loadDetail(video).then(play, () => play(null));
    return () => {
      left = true;
      element.removeEventListener("error", fail);
      element.removeEventListener("ended", stop);
      element.pause();
      element.removeAttribute("src");
      element.load();
    };
  }, [video]);
  return <video class="tile-video" ref={player} playsInline disablePictureInPicture />;
}
