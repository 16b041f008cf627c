/** What the colours of the map mean: clusters, classes or confidence; groups can be hidden, and raised over the others. */
import { useMemo, useState } from "preact/hooks";
import { colourOf, rampOf } from "../colours.js";
import { route, setQuery } from "../route.js";
import { clustering, collection, hasClasses } from "../store.js";
import { Name, count, decimal } from "../text.jsx";

/** Groups of videos that have a colour each: clusters or classes; confidence has none. */
export function colouringBy(name) {
  if (name === "confidence") return { name, groups: null };
  if (name === "class" && hasClasses.value) return { name, groups: classGroups(), of: collection.value.videos.class };
  return { name: "cluster", groups: clusterGroups(), of: clustering.value.of };
}

function clusterGroups() {
  const { list, none } = clustering.value;
  return [...list].sort((a, b) => b.size - a.size).concat(none ?? []).filter(({ size }) => size > 0);
}

function classGroups() {
  const { videos, classes } = collection.value;
  const sizes = new Map();
  for (const kind of videos.class) sizes.set(kind, (sizes.get(kind) ?? 0) + 1);
  return [...sizes].sort((a, b) => b[1] - a[1]).map(([id, size]) => ({ id, size, title: id < 0 ? "unknown" : classes[id] }));
}

export function useHidden() {
  const text = route.value.query.get("hide") ?? "";
  return useMemo(() => new Set(text === "" ? [] : text.split(".").map(Number)), [text]);
}

const hide = (groups) => setQuery({ hide: [...groups].sort((a, b) => a - b).join(".") }, { replace: true });

/** @param {{colouring: object, hidden: Set<number>, onRaise: (group: number | null) => void}} props */
export function Legend({ colouring, hidden, onRaise }) {
  const { name, groups } = colouring;
  const [typed, setTyped] = useState("");
  const choices = [["cluster", "Cluster"], ...(hasClasses.value ? [["class", "Class"]] : []), ["confidence", "Confidence"]];
  const wanted = typed.trim().toLowerCase();
  const listed = groups?.filter(({ title }) => title.toLowerCase().includes(wanted)) ?? [];
  return (
    <aside class="legend" aria-label="Legend">
      <div class="segments" role="group" aria-label="Colour by">
        {choices.map(([value, title]) => (
          <button
            key={value}
            type="button"
            aria-pressed={name === value}
            onClick={() => setQuery({ colour: value === "cluster" ? null : value, hide: null })}
          >
            {title}
          </button>
        ))}
      </div>
      {!groups && <Ramp />}
      {groups && (
        <>
          {groups.length > 20 && (
            <input
              class="legend-search"
              type="search"
              aria-label="Find in the legend"
              placeholder={`Find among ${count(groups.length)}`}
              value={typed}
              onInput={(event) => setTyped(event.currentTarget.value)}
            />
          )}
          <p class="legend-all">
            <button type="button" class="button button-quiet" onClick={() => hide([])} disabled={hidden.size === 0}>
              Show all
            </button>
            <button type="button" class="button button-quiet" onClick={() => hide(groups.map(({ id }) => id))}>
              Show none
            </button>
          </p>
          <ul class="legend-list" onPointerLeave={() => onRaise(null)}>
            {listed.map((group) => (
              <LegendRow key={group.id} group={group} hidden={hidden} onRaise={onRaise} />
            ))}
          </ul>
        </>
      )}
    </aside>
  );
}

function LegendRow({ group: { id, size, title }, hidden, onRaise }) {
  const toggle = () => {
    const next = new Set(hidden);
    if (!next.delete(id)) next.add(id);
    hide(next);
  };
  return (
    <li>
      <label
        class="legend-row"
        data-group={id}
        onPointerEnter={() => onRaise(id)}
        onFocusIn={() => onRaise(id)}
        onFocusOut={() => onRaise(null)}
      >
        <input type="checkbox" checked={!hidden.has(id)} onChange={toggle} style={{ "--colour": colourOf(id) }} />
        <Name class="legend-name">{title}</Name>
        <span class="quiet">{count(size)}</span>
      </label>
    </li>
  );
}

function Ramp() {
  const stops = Array.from({ length: 11 }, (_, step) => rampOf(step / 10)).join(", ");
  return (
    <div class="ramp">
      <span class="ramp-bar" style={{ background: `linear-gradient(to right, ${stops})` }} />
      <span class="ramp-ends quiet">
        <span>{decimal(0)}</span>
        <span>{decimal(1)}</span>
      </span>
    </div>
  );
}
