/** Segments: rows that are parts of one file, by the media fragment at the end of their path; pure but for `siblings`. */

const FRAGMENT = /^(.+)#t=(\d+(?:\.\d+)?)?(?:,(\d+(?:\.\d+)?))?$/s;

/** The file of a path, and start and end in seconds; end is Infinity up to the end of the file. Null for a whole file. */
export function segmentOf(path) {
  const match = FRAGMENT.exec(path);
  if (!match || (match[2] === undefined && match[3] === undefined)) return null;
  const start = Number(match[2] ?? 0);
  const end = match[3] === undefined ? Infinity : Number(match[3]);
  return start < end ? { file: match[1], start, end } : null;
}

let known = { paths: null, files: new Map() };

/** The segments of the file of a row, in order of time, as {row, start, end}; none for a whole file. */
export function siblings(paths, row) {
  if (known.paths !== paths) {
    const files = new Map();
    paths.forEach((path, other) => {
      const segment = segmentOf(path);
      if (!segment) return;
      if (!files.has(segment.file)) files.set(segment.file, []);
      files.get(segment.file).push({ row: other, start: segment.start, end: segment.end });
    });
    for (const parts of files.values()) parts.sort((a, b) => a.start - b.start || a.end - b.end);
    known = { paths, files };
  }
  const segment = segmentOf(paths[row]);
  return segment ? known.files.get(segment.file) : [];
}

/** Neighbouring segments of one colour as one piece {start, end, colour}, from 0 to `end`; gaps have no piece. */
export function piecesOf(parts, end, colourOfRow) {
  const pieces = [];
  for (const part of parts) {
    const colour = colourOfRow(part.row);
    const last = pieces[pieces.length - 1];
    const until = Math.min(part.end, end);
    if (last && last.colour === colour && part.start <= last.end + 0.001) last.end = Math.max(last.end, until);
    else pieces.push({ start: part.start, end: until, colour });
  }
  return pieces;
}

/** A time as 1:02:03 or 2:03. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}
