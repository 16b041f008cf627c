/** In which order clusters are shown, how, and which: by ranges of their figures, and by class. */
import { useMemo, useRef, useState } from "preact/hooks";
import { RANGES, SORTS, readRange, writeRange } from "../listing.js";
import { route, setQuery } from "../route.js";
import { clustering, collection, hasClasses } from "../store.js";
import { visible } from "../text.jsx";
import { Icon, IconButton } from "./icons.jsx";

export function Toolbar({ wanted, asTable }) {
  const filters = Object.keys(wanted.ranges).length + (wanted.kind === null ? 0 : 1);
  const [open, setOpen] = useState(filters > 0);
  const sorts = Object.entries(SORTS).filter(([name]) => isKnown(name));
  const sortBy = (name) => setQuery({ sort: name === "size" ? null : name, direction: null });
  return (
    <>
      <div class="toolbar" role="toolbar" aria-label="Sort and filter clusters">
        <label class="field">
          <span>Sort by</span>
          <select value={wanted.sort} onChange={(event) => sortBy(event.currentTarget.value)}>
            {sorts.map(([name, { title }]) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <IconButton
          icon={wanted.down ? "down" : "up"}
          label={wanted.down ? "Descending; reverse" : "Ascending; reverse"}
          onClick={() => setQuery({ direction: wanted.down ? "up" : "down" })}
        />
        <button type="button" class="button" aria-expanded={open} aria-controls="filters" onClick={() => setOpen(!open)}>
          <Icon name="filter" /> Filter{filters > 0 && <span class="badge">{filters}</span>}
        </button>
        <span class="spring" />
        <div class="segments" role="group" aria-label="Display">
          <button type="button" aria-pressed={!asTable} onClick={() => setQuery({ view: null })}>
            <Icon name="cards" /> Cards
          </button>
          <button type="button" aria-pressed={asTable} onClick={() => setQuery({ view: "table" })}>
            <Icon name="table" /> Table
          </button>
        </div>
      </div>
      <div id="filters" class="filters" hidden={!open}>
        {open && <Filters wanted={wanted} />}
      </div>
    </>
  );
}

/** Whether there are such figures at all. */
export function isKnown(name) {
  if ((SORTS[name] ?? RANGES[name]).classes) return hasClasses.value;
  return !["confidence", "entropy"].includes(name) || clustering.value.list.some((cluster) => cluster[name] !== null);
}

function Filters({ wanted }) {
  const { classes } = collection.value;
  const present = useMemo(() => [...new Set(classes)].sort((a, b) => a.localeCompare(b, "en", { numeric: true })), [classes]);
  const clear = Object.fromEntries(["class", ...Object.keys(RANGES)].map((name) => [name, null]));
  const some = wanted.kind !== null || Object.keys(wanted.ranges).length > 0;
  return (
    <>
      {Object.keys(RANGES).filter(isKnown).map((name) => (
        <RangeFilter key={name} name={name} />
      ))}
      {hasClasses.value && (
        <label class="field field-above">
          <span>Contains class</span>
          <select
            value={wanted.kind === null ? "" : classes[wanted.kind]}
            onChange={(event) => setQuery({ class: event.currentTarget.value })}
          >
            <option value="">any</option>
            {present.map((name) => (
              <option key={name} value={name}>
                {visible(name)}
              </option>
            ))}
          </select>
        </label>
      )}
      {some && (
        <button type="button" class="button" onClick={() => setQuery(clear)}>
          <Icon name="cross" /> No filter
        </button>
      )}
    </>
  );
}

function RangeFilter({ name }) {
  const { title, of, step } = RANGES[name];
  const values = clustering.value.list.map(of).filter((value) => value !== null).sort((a, b) => a - b);
  const text = (value) => (step === 1 ? String(value) : value.toFixed(2));
  const range = readRange(route.value.query.get(name)) ?? [-Infinity, Infinity];
  const low = useRef(null);
  const high = useRef(null);
  const change = () => setQuery({ [name]: writeRange(low.current.value, high.current.value) });
  const field = (ref, label, value, hint) => (
    <input
      ref={ref}
      type="number"
      step={step}
      min="0"
      inputMode="decimal"
      aria-label={`${title}, ${label}`}
      placeholder={hint}
      value={Number.isFinite(value) ? value : ""}
      onChange={change}
    />
  );
  return (
    <fieldset class="range">
      <legend>{title}</legend>
      {field(low, "at least", range[0], values.length ? text(values[0]) : "")}
      <span aria-hidden="true">–</span>
      {field(high, "at most", range[1], values.length ? text(values.at(-1)) : "")}
    </fieldset>
  );
}
