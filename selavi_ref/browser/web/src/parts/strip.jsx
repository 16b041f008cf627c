/** A moving thumbnail: a strip of twelve frames, of which a square shows one after the other. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { collection } from "../store.js";

export const FRAMES = 12;

// A tile that stays for less than this while one scrolls never asks for its strip.
const SETTLE_MS = 70;
const shown = new Set();

export function Strip({ video }) {
  const frame = useRef(null);
  const image = useRef(null);

  useLayoutEffect(() => {
    const element = image.current;
    const ask = () => {
      element.src = `media/thumbnail/${video}.webp`;
    };
    let timer = null;
    if (shown.has(video)) ask();
    else timer = setTimeout(ask, SETTLE_MS);
    return () => {
      clearTimeout(timer);
      // The request of a picture that is no longer wanted is given up.
      if (!element.complete) element.removeAttribute("src");
    };
  }, [video]);

  const arrived = () => {
    const { naturalWidth, naturalHeight } = image.current;
    if (!naturalWidth) return;
    shown.add(video);
    frame.current.style.setProperty("--ratio", (naturalWidth / FRAMES / naturalHeight).toFixed(4));
    frame.current.dataset.here = "";
  };
  const ratio = collection.value.videos.aspect?.[video] || 1;
  return (
    <span class="strip" ref={frame} style={{ "--ratio": ratio }}>
      <span class="strip-frame">
        <img ref={image} alt="" decoding="async" draggable={false} onLoad={arrived} />
      </span>
    </span>
  );
}
