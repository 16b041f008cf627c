/**
 * Draws up to some hundred thousand points as discs into the pixels of a canvas, and finds points by place. No GPU is
 * needed: 100,000 points take some milliseconds.
 */
import KDBush from "kdbush";

const NOWHERE = 65535;
const MARGIN = 16;
const GOLDEN = 0.6180339887;

/**
 * @typedef {{x: number, y: number, zoom: number}} Eye The place in the middle of the picture, from 0 to 1, and how near.
 * @typedef {object} Look
 * @property {Uint32Array} paint Colour of each video as a pixel; 0: it is not drawn.
 * @property {Uint8Array} level 0: drawn first, 1: over those, 2: with a ring over all.
 * @property {number} paper @property {number} ink Pixels.
 */

/** The places of a payload: numbers from 0 to 1 for the videos that have a place. */
export function placesOf({ x, y }) {
  return { x: words(x), y: words(y) };
}

function words(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return new Uint16Array(bytes.buffer);
}

export function makeScatter(canvas, places) {
  const context = canvas.getContext("2d", { alpha: false });
  const points = shuffled(places);
  const index = new KDBush(Math.max(1, points.count), 64, Uint16Array);
  if (points.count === 0) index.add(0, 0);
  for (let i = 0; i < points.count; i++) index.add(points.x[i], points.y[i]);
  index.finish();
  let image = null;
  let pixels = null;
  let width = 0;
  let height = 0;
  let ratio = 1;

  /** Fits the canvas to its element. */
  function resize() {
    ratio = Math.min(2, devicePixelRatio || 1);
    width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    canvas.width = width;
    canvas.height = height;
    image = new ImageData(width + 2 * MARGIN, height + 2 * MARGIN);
    pixels = new Uint32Array(image.data.buffer);
  }

  /** Pixels of the element from side to side of all places. */
  const scaleOf = (eye) => eye.zoom * 0.94 * Math.min(canvas.clientWidth, canvas.clientHeight);

  /** @param {Eye} eye @param {Look} look */
  function draw(eye, look) {
    const scale = (scaleOf(eye) * ratio) / NOWHERE;
    const left = width / 2 - eye.x * NOWHERE * scale + MARGIN;
    const top = height / 2 - eye.y * NOWHERE * scale + MARGIN;
    const radius = radiusOf(points.count, eye.zoom) * ratio;
    pixels.fill(look.paper);
    const stride = width + 2 * MARGIN;
    const area = { pixels, stride, rows: height + 2 * MARGIN, left, top, scale };
    const disc = stampOf(radius, stride);
    let levels = 0;
    for (const level of look.level) levels |= 1 << level;
    if (levels & 1) stampAll(area, points, look, 0, disc, 0);
    if (levels & 2) stampAll(area, points, look, 1, disc, 0);
    if (levels & 4) {
      stampAll(area, points, look, 2, stampOf(radius + 2.4 * ratio, stride), look.ink);
      stampAll(area, points, look, 2, stampOf(radius + 0.4 * ratio, stride), 0);
    }
    context.putImageData(image, -MARGIN, -MARGIN);
  }

  /** Where on the element a video is. */
  function screenOf(video, eye) {
    const scale = scaleOf(eye);
    return [
      canvas.clientWidth / 2 + (places.x[video] / NOWHERE - eye.x) * scale,
      canvas.clientHeight / 2 + (places.y[video] / NOWHERE - eye.y) * scale,
    ];
  }

  /** The place from 0 to 1 under a pixel of the element. */
  function placeOf(x, y, eye) {
    const scale = scaleOf(eye);
    return [(x - canvas.clientWidth / 2) / scale + eye.x, (y - canvas.clientHeight / 2) / scale + eye.y];
  }

  /** The drawn video nearest to a pixel of the element, within `reach` pixels; or null. */
  function pick(x, y, reach, eye, look) {
    const [u, v] = placeOf(x, y, eye).map((part) => part * NOWHERE);
    let best = null;
    let least = Infinity;
    for (const found of index.within(u, v, (reach / scaleOf(eye)) * NOWHERE)) {
      if (found >= points.count || !look.paint[points.video[found]]) continue;
      const distance = (points.x[found] - u) ** 2 + (points.y[found] - v) ** 2;
      if (distance < least) [least, best] = [distance, points.video[found]];
    }
    return best;
  }

  /** The drawn videos inside a polygon of pixels of the element. */
  function inside(polygon, eye, look) {
    const corners = polygon.map(([x, y]) => placeOf(x, y, eye).map((part) => part * NOWHERE));
    const found = [];
    for (let i = 0; i < points.count; i++) {
      if (look.paint[points.video[i]] && isInside(points.x[i], points.y[i], corners)) found.push(points.video[i]);
    }
    return found.sort((a, b) => a - b);
  }

  return { resize, draw, pick, inside, screenOf, placeOf, scaleOf, count: points.count };
}

/** Larger when there are few and when one is near. */
const radiusOf = (count, zoom) => Math.min(7, (count > 50000 ? 1.1 : count > 8000 ? 1.6 : count > 2000 ? 2.4 : 3.6) * zoom ** 0.4);

/** The points that have a place, in an order that hides no cluster behind the ones that come later in the list. */
function shuffled({ x, y }) {
  const placed = [];
  for (let video = 0; video < x.length; video++) if (x[video] !== NOWHERE || y[video] !== NOWHERE) placed.push(video);
  const count = placed.length;
  let stride = Math.max(1, Math.round(count * GOLDEN));
  while (common(stride, count) > 1) stride++;
  const video = new Int32Array(count);
  for (let i = 0; i < count; i++) video[i] = placed[(i * stride) % count];
  return { count, video, x: Uint16Array.from(video, (v) => x[v]), y: Uint16Array.from(video, (v) => y[v]) };
}

const common = (a, b) => (b ? common(b, a % b) : a);

/** The pixels of a disc as steps from its middle, and how much of each it covers, from 0 to 256. */
function stampOf(radius, stride) {
  const reach = Math.min(MARGIN - 1, Math.ceil(radius + 0.5));
  const steps = [];
  const covers = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (cover < 0.03) continue;
      steps.push(dy * stride + dx);
      covers.push(Math.round(cover * 256));
    }
  }
  return { reach, steps: Int32Array.from(steps), covers: Uint16Array.from(covers) };
}

function stampAll({ pixels, stride, rows, left, top, scale }, { count, video, x, y }, { paint, level }, wanted, stamp, colour) {
  const { reach, steps, covers } = stamp;
  const [low, right, bottom] = [reach, stride - reach, rows - reach];
  for (let i = 0; i < count; i++) {
    const px = (x[i] * scale + left + 0.5) | 0;
    const py = (y[i] * scale + top + 0.5) | 0;
    if (px < low || py < low || px >= right || py >= bottom) continue;
    const one = video[i];
    if (level[one] !== wanted || paint[one] === 0) continue;
    const fill = colour || paint[one];
    const at = py * stride + px;
    for (let s = 0; s < steps.length; s++) {
      const cover = covers[s];
      const to = at + steps[s];
      pixels[to] = cover === 256 ? fill : mixed(pixels[to], fill, cover);
    }
  }
}

/** Two pixels mixed, red and blue at once. */
function mixed(under, over, cover) {
  const redBlue = ((under & 0xff00ff) * (256 - cover) + (over & 0xff00ff) * cover) >>> 8;
  const green = ((under & 0xff00) * (256 - cover) + (over & 0xff00) * cover) >>> 8;
  return 0xff000000 | (redBlue & 0xff00ff) | (green & 0xff00);
}

function isInside(x, y, corners) {
  let within = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [ax, ay] = corners[i];
    const [bx, by] = corners[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) within = !within;
  }
  return within;
}
