/** Mouse, pen and fingers on the map: drag to move, pinch or wheel to zoom, click to open, Shift and drag to select. */
import { go, link } from "./route.js";

const STILL = 5;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {SVGPathElement} outline Where the line of a selection is drawn.
 * @param {object} map What useScatter makes.
 * @returns {() => void} Stops following.
 */
export function followPointers(canvas, outline, map) {
  const down = new Map();
  let start = null;
  let polygon = null;
  let shown = null;
  let pending = null;

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const listeners = {
    pointerdown(event) {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      down.set(event.pointerId, at(event));
      if (down.size === 1) {
        start = { at: at(event), moved: false };
        polygon = map.isLassoing(event) ? [at(event)] : null;
      } else {
        start = { ...start, moved: true };
        polygon = null;
        outline.setAttribute("d", "");
      }
    },
    pointermove(event) {
      const to = at(event);
      const from = down.get(event.pointerId);
      if (!from) {
        if (event.pointerType !== "touch") hover(to);
        return;
      }
      if (Math.hypot(to[0] - start.at[0], to[1] - start.at[1]) > STILL) start.moved = true;
      if (polygon) {
        polygon.push(to);
        outline.setAttribute("d", `M${polygon.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}Z`);
      } else if (down.size === 2) pinch(event.pointerId, from, to);
      else if (start.moved) map.panBy(to[0] - from[0], to[1] - from[1]);
      down.set(event.pointerId, to);
    },
    pointerup(event) {
      if (!down.delete(event.pointerId)) return;
      if (polygon?.length > 2 && start.moved) map.select(polygon);
      else if (start && !start.moved && down.size === 0) click(event);
      polygon = null;
      outline.setAttribute("d", "");
    },
    pointercancel(event) {
      down.delete(event.pointerId);
      polygon = null;
      outline.setAttribute("d", "");
    },
    pointerleave() {
      if (down.size === 0) hover(null);
    },
    wheel(event) {
      event.preventDefault();
      const lines = event.deltaMode === 1 ? 20 : 1;
      map.zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), ...at(event));
    },
  };

  /** At most once a frame. */
  function hover(place) {
    pending = { place };
    requestAnimationFrame(() => {
      if (!pending) return;
      const where = pending.place;
      pending = null;
      const video = where ? map.pick(...where) : null;
      canvas.style.cursor = video === null ? "" : "pointer";
      if (video !== shown || where === null) map.show(video);
      shown = video;
    });
  }

  /** A finger shows the video first, and opens it when it touches it again. */
  function click(event) {
    const video = map.pick(...at(event), event.pointerType === "touch" ? 24 : undefined);
    if (event.pointerType === "touch" && video !== shown) {
      shown = video;
      map.show(video);
    } else if (video !== null) go(link(`video/${video}`));
  }

  function pinch(id, from, to) {
    const other = [...down].find(([key]) => key !== id)[1];
    const before = Math.hypot(from[0] - other[0], from[1] - other[1]);
    const after = Math.hypot(to[0] - other[0], to[1] - other[1]);
    map.panBy((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
    if (before > 0) map.zoomBy(after / before, (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
  }

  for (const [type, listener] of Object.entries(listeners)) canvas.addEventListener(type, listener, { passive: false });
  return () => {
    for (const [type, listener] of Object.entries(listeners)) canvas.removeEventListener(type, listener);
  };
}
