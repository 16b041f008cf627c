/** A moving thumbnail: a strip of twelve frames, of which a square shows one after the other. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { served } from "../data.js";
import { collection } from "../store.js";
import { loadInTurn } from "../turns.js";

export const FRAMES = 12;

// A tile that stays for less than this while one scrolls never asks for its strip.
const SETTLE_MS = 70;
// A server that has too much to do says so; then the strip is asked for again, a few times.
const AGAIN_MS = 1500;
const MOST_TRIES = 5;
const shown = new Set();

export function Strip({ video }) {
  const frame = useRef(null);
  const image = useRef(null);

  useLayoutEffect(() => {
    let timer = null;
    let giveUp = () => {};
    let tries = 0;
    const ask = () => {
      tries++;
      giveUp = loadInTurn(image.current, `media/thumbnail/${video}.webp`, (arrived) => {
        if (arrived) show();
        else if (served && tries < MOST_TRIES) timer = setTimeout(ask, AGAIN_MS * tries);
      });
    };
    const show = () => {
      const { naturalWidth, naturalHeight } = image.current;
      shown.add(video);
      frame.current.style.setProperty("--ratio", (naturalWidth / FRAMES / naturalHeight).toFixed(4));
      frame.current.dataset.here = "";
    };
    if (shown.has(video)) ask();
    else timer = setTimeout(ask, SETTLE_MS);
    return () => {
      clearTimeout(timer);
      giveUp();
    };
  }, [video]);

  const ratio = collection.value.videos.aspect?.[video] || 1;
  return (
    <span class="strip" ref={frame} style={{ "--ratio": ratio }}>
      <span class="strip-frame">
        <img ref={image} alt="" decoding="async" draggable={false} />
      </span>
    </span>
  );
}
