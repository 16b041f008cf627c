/** Shares as horizontal bars with their names and figures. */
import { collection } from "../store.js";
import { Name, count } from "../text.jsx";

/**
 * The most common classes of a cluster.
 * @param {object} props
 * @param {[number, number][]} props.classes
 * @param {string} [props.colour]
 * @param {number} props.most How many are shown.
 * @param {number | null} [props.first] A class that is shown before the others, whatever its count.
 * @param {number | null} [props.chosen] The class that is chosen, if one can be.
 * @param {(kind: number | null) => void} [props.onChoose]
 */
export function ClassBars({ classes, colour, most, first = null, chosen = null, onChoose }) {
  const ordered = first === null ? classes : [...classes].sort((a, b) => (b[0] === first) - (a[0] === first));
  const shown = ordered.slice(0, most);
  const whole = classes.reduce((sum, [, number]) => sum + number, 0);
  const rest = ordered.slice(most).reduce((sum, [, number]) => sum + number, 0);
  return (
    <>
      <ul class="bars">
        {shown.map(([kind, number]) => (
          <li key={kind} data-class={kind} data-chosen={kind === chosen || kind === first || undefined}>
            <Bar
              name={collection.value.classes[kind]}
              part={number / whole}
              colour={colour}
              figure={count(number)}
              pressed={onChoose && kind === chosen}
              onClick={onChoose && (() => onChoose(kind === chosen ? null : kind))}
            />
          </li>
        ))}
      </ul>
      {rest > 0 && !onChoose && (
        <p class="bars-rest">
          {count(ordered.length - most)} more {ordered.length - most === 1 ? "class" : "classes"}, {count(rest)}
        </p>
      )}
    </>
  );
}

const ROW = 24;

/** How high bars will be, so that room is there before they are. */
export const heightOfBars = (classes, most) => ROW * (Math.min(classes.length, most) + (classes.length > most ? 1 : 0));

/** One bar, which can be pressed if there is something to do. */
export function Bar({ name, part, figure, colour, href, pressed, onClick }) {
  const inside = (
    <>
      <span class="bar-name">
        <Name>{name}</Name>
      </span>
      <span class="bar-track">
        <span class="bar-fill" style={{ width: `${(100 * part).toFixed(1)}%`, background: colour }} />
      </span>
      <span class="bar-figure">{figure}</span>
    </>
  );
  if (href) return <a class="bar" href={href}>{inside}</a>;
  if (onClick) return <button type="button" class="bar" aria-pressed={pressed} onClick={onClick}>{inside}</button>;
  return <div class="bar">{inside}</div>;
}
