/** The segments of a file as a coloured bar: a colour for each cluster, the present segment framed, in step with the player. */
import { useEffect, useMemo, useRef } from "preact/hooks";
import { colourOf } from "../colours.js";
import { go, link } from "../route.js";
import { clock, piecesOf, segmentOf, siblings } from "../segments.js";
import { clustering, collection } from "../store.js";
import { visible } from "../text.jsx";

export function Timeline({ video, seconds, player }) {
  const { path } = collection.value.videos;
  const parts = siblings(path, video);
  const of = clustering.value.of;
  const last = parts[parts.length - 1];
  const own = segmentOf(path[video]);
  const end = last && (last.end < Infinity ? last.end : last.start + (own.end === Infinity ? seconds ?? 1 : 1));
  const pieces = useMemo(
    () => (parts.length ? piecesOf(parts, end, (row) => colourOf(of[row])) : []),
    [parts, end, of],
  );
  const cursor = useRef(null);
  const bar = useRef(null);
  useCursor(cursor, player, end);
  if (parts.length < 2) return null;
  const percent = (time) => `${(100 * time) / end}%`;
  const at = parts.findIndex((part) => part.row === video);
  const partAt = (event) => {
    const box = bar.current.getBoundingClientRect();
    const time = ((event.clientX - box.left) / box.width) * end;
    return parts.findLast?.((part) => part.start <= time && time < part.end) ?? parts.filter((part) => part.start <= time).pop();
  };
  const show = (event) => {
    const part = partAt(event);
    if (!part) return;
    const title = clustering.value.byId.get(of[part.row])?.title ?? "";
    bar.current.title = `${clock(part.start)}–${clock(Math.min(part.end, end))} ${visible(title)}`;
  };
  const onKeyDown = (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: parts.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (parts[to]) go(link(`video/${parts[to].row}`));
  };
  return (
    <div class="timeline" data-timeline={parts.length}>
      <div
        class="timeline-bar"
        ref={bar}
        role="slider"
        tabIndex={0}
        aria-label="Segments of this file"
        aria-valuemin={1}
        aria-valuemax={parts.length}
        aria-valuenow={at + 1}
        aria-valuetext={`${clock(own.start)} to ${clock(Math.min(own.end, end))}`}
        style={{ backgroundImage: gradientOf(pieces, percent) }}
        onClick={(event) => {
          const part = partAt(event);
          if (part) go(link(`video/${part.row}`));
        }}
        onMouseMove={show}
        onKeyDown={onKeyDown}
      >
        <span class="timeline-own" style={{ left: percent(own.start), width: percent(Math.min(own.end, end) - own.start) }} />
        <span class="timeline-cursor" ref={cursor} hidden />
      </div>
      <p class="timeline-times quiet">
        <span>{clock(0)}</span>
        <span>
          {clock(own.start)}–{clock(Math.min(own.end, end))}
        </span>
        <span>{clock(end)}</span>
      </p>
    </div>
  );
}

/** One background for all pieces, however many: one element to lay out and paint. */
function gradientOf(pieces, percent) {
  const stops = [];
  let before = 0;
  for (const { start, end, colour } of pieces) {
    if (start > before) stops.push(`transparent ${percent(before)} ${percent(start)}`);
    stops.push(`${colour} ${percent(Math.max(before, start))} ${percent(end)}`);
    before = Math.max(before, end);
  }
  return `linear-gradient(90deg, ${stops.join(", ")})`;
}

/** Moves the cursor with the player, outside of the state of the page. */
function useCursor(cursor, player, end) {
  useEffect(() => {
    let frame = 0;
    const step = () => {
      const element = player.current;
      const mark = cursor.current;
      if (mark) {
        const shown = Boolean(element && element.readyState > 0);
        mark.hidden = !shown;
        if (shown) mark.style.left = `${Math.min(100, (100 * element.currentTime) / end)}%`;
      }
      frame = requestAnimationFrame(step);
    };
    step();
    return () => cancelAnimationFrame(frame);
  }, [player, end]);
}
