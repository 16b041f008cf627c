/** How numbers and names are written. Names come from files and people: they are always text, and nothing hides. */

const whole = new Intl.NumberFormat("en");

export const count = (number) => whole.format(number);

/** "1 video", "3 videos". */
export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** A number with two digits after the point; a dash where there is none. */
export const decimal = (number) => (number === null || number === undefined ? "–" : number.toFixed(2));

/** A probability: never rounded up to certainty. */
export const share = (number) => {
  if (number === null || number === undefined) return "–";
  return number < 1 && number > 0.995 ? ">0.99" : number.toFixed(2);
};

export const fileSize = (bytes) => {
  if (bytes < 1000) return counted(bytes, "byte");
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(0)} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
};

export const duration = (seconds) =>
  seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;

/** The last part of a path. */
export const baseName = (path) => path.slice(path.lastIndexOf("/") + 1) || path;

// Controls, marks that turn the direction of text, other invisible ones, halves of pairs (bytes of names that are not
// UTF-8), and spaces that are not the plain one.
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]/gu;

/** A string in which everything can be seen: a new line becomes the symbol of a new line, and so on. */
export const visible = (string) => string.replace(HIDDEN, symbolOf);

function symbolOf(character) {
  const code = character.charCodeAt(0);
  if (code === 0x200d) return character;
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `\u27e8${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
}

/** A name or path, on its own whatever the direction of its script. */
export function Name({ children, class: className }) {
  return (
    <bdi class={className} title={visible(children)}>
      {visible(children)}
    </bdi>
  );
}
