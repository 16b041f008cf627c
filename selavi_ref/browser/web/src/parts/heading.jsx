/** The heading of a view, and a figure with its name. */
import { useEffect } from "preact/hooks";
import { pageTitle } from "../store.js";
import { visible } from "../text.jsx";

/** The title of the document, and the heading that is focused when a view is arrived at. */
export function Heading({ title, children, class: className = "" }) {
  useEffect(() => {
    document.title = `${visible(title)} – ${visible(pageTitle.value)}`;
  }, [title, pageTitle.value]);
  return (
    <h1 tabIndex={-1} class={className}>
      {children ?? title}
    </h1>
  );
}

/** Said of figures that edits do not change. */
export const AS_LEARNT = "as learnt, before clusters were merged";

/** @param {{title: string, value: unknown, known?: boolean, asLearnt?: boolean}} props */
export function Figure({ title, value, known = true, asLearnt = false }) {
  if (!known) return null;
  return (
    <div class="figure" data-figure={title} title={asLearnt ? `${title} ${AS_LEARNT}` : undefined}>
      <dt>
        {title}
        {asLearnt && <span class="figure-note"> as learnt</span>}
      </dt>
      <dd>{value}</dd>
    </div>
  );
}
