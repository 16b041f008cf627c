/** A cluster's colour and name, as a link; and the field in which its name is edited. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { NONE } from "../clusters.js";
import { colourOf } from "../colours.js";
import { link } from "../route.js";
import { clustering, renameCluster, renaming } from "../store.js";
import { Name } from "../text.jsx";

export const clusterPath = (id) => `cluster/${id === NONE ? "none" : id}`;

export const Dot = ({ id, class: className = "" }) => (
  <span class={`dot ${className}`} style={{ background: colourOf(id) }} aria-hidden="true" />
);

/** Links to a cluster of the present labelling. */
export function ClusterLink({ id }) {
  const cluster = clustering.value.byId.get(id);
  return (
    <a class="cluster-link" href={link(clusterPath(id))}>
      <Dot id={id} />
      <Name>{cluster?.title ?? `Cluster ${id}`}</Name>
    </a>
  );
}

/**
 * The field in place of a name; Enter keeps, Escape gives up. Then the focus goes to what stands in its place.
 * @param {{cluster: import("../clusters.js").Cluster, then: string}} props `then`: a selector.
 */
export function NameField({ cluster, then }) {
  const input = useRef(null);
  useLayoutEffect(() => {
    input.current.select();
    return () => queueMicrotask(() => document.querySelector(then)?.focus());
  }, []);
  const close = () => {
    renaming.value = null;
  };
  const keep = async (event) => {
    event.preventDefault();
    const name = input.current.value.trim();
    if (name === (cluster.name ?? "") || (await renameCluster(cluster.id, name))) close();
  };
  return (
    <form class="name-field" onSubmit={keep} onKeyDown={(event) => event.key === "Escape" && (event.stopPropagation(), close())}>
      <input
        ref={input}
        type="text"
        aria-label={`Name of cluster ${cluster.id}`}
        placeholder={`Cluster ${cluster.id}`}
        defaultValue={cluster.name ?? ""}
        maxLength={200}
        autoComplete="off"
        spellcheck={false}
      />
      <button type="submit" class="button button-main">Save</button>
      <button type="button" class="button" onClick={close}>Cancel</button>
    </form>
  );
}
