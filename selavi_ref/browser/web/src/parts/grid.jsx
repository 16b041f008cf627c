/**
 * A grid of videos that may be a hundred thousand: only the rows near the window are there. Arrows move in it, and its
 * tiles can be selected, marked, moved and listened to by key.
 */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { served } from "../data.js";
import { useKeys } from "../keyboard.js";
import { go, link } from "../route.js";
import { askMove, clustering, collection, labelling, selected, targets, toggleSelected, toggleSound, toggleWrong } from "../store.js";
import { share } from "../text.jsx";
import { Tile } from "./tile.jsx";

const GAP = 12;
const CAPTION = 46;
const ROWS_AROUND = 2;

/**
 * @param {object} props
 * @param {ArrayLike<number>} props.videos
 * @param {string} props.label What the grid is called.
 * @param {(video: number) => string} [props.noteOf] The line under the name.
 */
export function VideoGrid({ videos, label, noteOf = noteOfVideo }) {
  const element = useRef(null);
  const { columns, side, rowHeight, first, last } = useWindow(element, videos.length);
  const [at, setAt] = useState(0);
  const anchor = useRef(null);
  const wanted = useRef(false);
  const here = Math.min(at, Math.max(0, videos.length - 1));

  useFocusKept(element, videos, here);
  useLayoutEffect(() => {
    if (!wanted.current) return;
    wanted.current = false;
    element.current.querySelector(`[data-at="${here}"]`)?.focus({ preventScroll: true });
  });

  const moveTo = (to) => {
    if (to < 0 || to >= videos.length) return;
    wanted.current = true;
    setAt(to);
    reveal(element.current, Math.floor(to / columns) * rowHeight, rowHeight);
    if (to === here) element.current.querySelector(`[data-at="${to}"]`)?.focus({ preventScroll: true });
  };

  const select = (to, ranged) => {
    const from = ranged && anchor.current !== null ? anchor.current : to;
    if (from === to) toggleSelected([videos[to]]);
    else toggleSelected(between(videos, from, to), true);
    anchor.current = to;
  };

  const onKeyDown = (event) => {
    if (event.altKey || !event.target.matches?.("[data-at]")) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "a" && served) toggleSelected(videos, true);
    else if (event.ctrlKey || event.metaKey) return;
    else if (event.key === "Enter") go(link(`video/${videos[here]}`));
    else if (event.key === " ") served && select(here, event.shiftKey);
    else if (event.shiftKey && served && event.key.startsWith("Arrow")) {
      const to = step(event.key, here, columns, videos.length);
      if (to === null) return;
      toggleSelected([videos[here], videos[to]], true);
      anchor.current = to;
      moveTo(to);
    } else {
      const to = step(event.key, here, columns, videos.length);
      if (to === null) return;
      moveTo(to);
    }
    event.preventDefault();
  };

  // Letters are about the tile under the focus; what has no tile leaves them to others.
  const focused = () => (element.current?.contains(document.activeElement) ? videos[here] : null);
  const about = (action) => () => {
    const video = focused();
    if (video === null && !selected.value.size) return false;
    return action(video);
  };
  useKeys({
    s: () => (focused() === null ? false : toggleSound(focused())),
    ...(served && {
      x: () => (focused() === null ? false : select(here, false)),
      "Shift+x": () => (focused() === null ? false : select(here, true)),
      w: about((video) => toggleWrong(targets(video))),
      m: about((video) => askMove(targets(video))),
    }),
  });

  const rows = Math.ceil(videos.length / columns);
  const drawn = rowsOf(first, Math.min(last, rows - 1), Math.floor(here / columns));
  return (
    <div
      ref={element}
      class="grid"
      role="grid"
      aria-label={label}
      aria-rowcount={rows}
      aria-colcount={columns}
      aria-multiselectable={served ? "true" : undefined}
      style={{ height: `${Math.max(0, rows * rowHeight - GAP)}px` }}
      onKeyDown={onKeyDown}
      onFocusIn={(event) => {
        const cell = event.target.closest("[data-at]");
        if (cell) setAt(Number(cell.dataset.at));
      }}
    >
      {drawn.map((row) => (
        <div
          key={row}
          role="row"
          class="grid-row"
          aria-rowindex={row + 1}
          style={{ transform: `translateY(${row * rowHeight}px)`, "--side": `${side}px` }}
        >
          {positions(row, columns, videos.length).map((position) => (
            <Tile
              key={videos[position]}
              video={videos[position]}
              note={noteOf(videos[position])}
              role="gridcell"
              aria-colindex={(position % columns) + 1}
              aria-selected={served ? selected.value.has(videos[position]) : undefined}
              data-at={position}
              tabIndex={position === here ? 0 : -1}
              onSelect={(event) => select(position, event.shiftKey)}
            />
          ))}
        </div>
      ))}
    </div>
  );
}

/** Its confidence, and its class if that is known; or why it has no label. */
export function noteOfVideo(video) {
  const { videos, classes } = collection.value;
  if (clustering.value.of[video] < 0) return videos.reason[video] ?? "no label";
  const kind = videos.class[video];
  const confidence = labelling.value.confidence[video];
  return [confidence !== null && share(confidence), kind >= 0 && classes[kind]].filter(Boolean).join(" · ");
}

/** Which rows are near the window, and how large tiles are. */
function useWindow(element, length) {
  const [shape, setShape] = useState({ columns: 4, side: 148, rowHeight: 148 + CAPTION + GAP, first: 0, last: 0 });
  useLayoutEffect(() => {
    let asked = 0;
    const measure = () => {
      asked = 0;
      const box = element.current.getBoundingClientRect();
      const columns = Math.max(2, Math.floor((box.width + GAP) / ((box.width < 520 ? 98 : 144) + GAP)));
      const side = (box.width - GAP * (columns - 1)) / columns;
      const rowHeight = Math.round(side + CAPTION + GAP);
      const first = Math.max(0, Math.floor(-box.top / rowHeight) - ROWS_AROUND);
      const last = Math.max(0, Math.floor((innerHeight - box.top) / rowHeight) + ROWS_AROUND);
      setShape((old) =>
        old.columns === columns && old.side === side && old.first === first && old.last === last
          ? old
          : { columns, side, rowHeight, first, last },
      );
    };
    const soon = () => {
      asked ||= requestAnimationFrame(measure);
    };
    measure();
    const sizes = new ResizeObserver(soon);
    sizes.observe(element.current);
    sizes.observe(document.body);
    addEventListener("scroll", soon, { passive: true });
    addEventListener("resize", soon);
    return () => {
      cancelAnimationFrame(asked);
      sizes.disconnect();
      removeEventListener("scroll", soon);
      removeEventListener("resize", soon);
    };
  }, [length]);
  return shape;
}

/** When the tile that had the focus goes, for example since its video was moved, the next one takes it. */
function useFocusKept(element, videos, here) {
  const had = useRef(false);
  useEffect(() => {
    const grid = element.current;
    const enter = () => {
      had.current = true;
    };
    const leave = (event) => {
      if (event.relatedTarget && !grid.contains(event.relatedTarget)) had.current = false;
    };
    grid.addEventListener("focusin", enter);
    grid.addEventListener("focusout", leave);
    return () => {
      grid.removeEventListener("focusin", enter);
      grid.removeEventListener("focusout", leave);
    };
  }, []);
  useEffect(() => {
    if (had.current && document.activeElement === document.body) {
      element.current.querySelector(`[data-at="${here}"]`)?.focus({ preventScroll: true });
    }
  }, [videos]);
}

function step(key, at, columns, length) {
  const page = columns * 4;
  const to = {
    ArrowRight: at + 1,
    ArrowLeft: at - 1,
    ArrowDown: at + columns,
    ArrowUp: at - columns,
    PageDown: Math.min(at + page, length - 1),
    PageUp: Math.max(at - page, 0),
    Home: 0,
    End: length - 1,
  }[key];
  return to === undefined ? null : Math.min(Math.max(to, key === "ArrowUp" ? -1 : 0), length - 1);
}

/** Scrolls just so far that a row is in the window, clear of what sticks to its borders. */
function reveal(grid, top, height) {
  const y = grid.getBoundingClientRect().top + top;
  const above = 76;
  const below = 76;
  if (y < above) scrollBy({ top: y - above });
  else if (y + height > innerHeight - below) scrollBy({ top: y + height - innerHeight + below });
}

function rowsOf(first, last, extra) {
  const rows = [];
  for (let row = first; row <= last; row++) rows.push(row);
  if (extra < first) rows.unshift(extra);
  else if (extra > last && last >= 0) rows.push(extra);
  return rows;
}

function positions(row, columns, length) {
  const all = [];
  for (let at = row * columns; at < Math.min((row + 1) * columns, length); at++) all.push(at);
  return all;
}

const between = (videos, a, b) => Array.prototype.slice.call(videos, Math.min(a, b), Math.max(a, b) + 1);
