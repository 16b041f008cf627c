/**
 * Colours of clusters and classes: the same number has the same colour everywhere. Twelve were chosen by hand; from
 * there on hues go round by the golden angle. All keep a contrast of 3 to 1 with the paper, light and dark.
 */

const CHOSEN = [
  "#0f7f86", "#c9661a", "#7557b8", "#3f8f3c", "#c23b5a", "#2f76c4",
  "#9a7a12", "#b5489f", "#5b7f95", "#8a6148", "#6d8a16", "#4f5fc9",
];
const GOLDEN_ANGLE = 137.50776;
const GREY = "#8a8680";

const known = new Map();

/** The colour of cluster or class `number` as #rrggbb; grey for a negative one. */
export function colourOf(number) {
  if (number < 0) return GREY;
  if (number < CHOSEN.length) return CHOSEN[number];
  if (!known.has(number)) {
    const turn = number - CHOSEN.length;
    const lightness = [0.58, 0.52, 0.62][turn % 3];
    known.set(number, oklch(lightness, 0.115 + 0.03 * (turn % 2), (turn * GOLDEN_ANGLE + 20) % 360));
  }
  return known.get(number);
}

/** A colour from dull to bright for a value from 0 to 1. */
export function rampOf(value) {
  const t = Math.min(1, Math.max(0, value));
  return oklch(0.5 + 0.16 * t, 0.05 + 0.11 * t, 300 - 225 * t);
}

/** #rrggbb as the 32 bits that an ImageData has on a little-endian machine. */
export function pixelOf(colour) {
  const rgb = parseInt(colour.slice(1), 16);
  return (0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

function oklch(lightness, chroma, hue) {
  const angle = (hue * Math.PI) / 180;
  const a = chroma * Math.cos(angle);
  const b = chroma * Math.sin(angle);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return "#" + linear.map(byteOf).map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function byteOf(linear) {
  const bounded = Math.min(1, Math.max(0, linear));
  const encoded = bounded <= 0.0031308 ? 12.92 * bounded : 1.055 * bounded ** (1 / 2.4) - 0.055;
  return Math.round(encoded * 255);
}
