/** Names that `selavi name` has proposed for a cluster without one: pressing one gives it. */
import { served } from "../data.js";
import { proposalsOf, renameCluster } from "../store.js";
import { decimal, visible } from "../text.jsx";

const MOST = 3;

/** Gives a cluster the best name that was proposed; false where there is none. */
export function acceptFirst(id) {
  const [best] = proposalsOf(id);
  if (!served || !best) return false;
  renameCluster(id, best.name);
  return true;
}

/** @param {{id: number, most?: number}} props */
export function Proposals({ id, most = MOST }) {
  const proposals = served ? proposalsOf(id).slice(0, most) : [];
  if (!proposals.length) return null;
  return (
    <ul class="proposals" aria-label={`Proposed names of cluster ${id}`}>
      {proposals.map(({ name, score, source }, at) => (
        <li key={name}>
          <button
            type="button"
            class="proposal"
            title={`Accept this name${at === 0 ? " (a)" : ""}; from ${visible(source)}`}
            onClick={() => renameCluster(id, name)}
          >
            <bdi>{visible(name)}</bdi>
            {score !== null && <span class="proposal-score">{decimal(score)}</span>}
          </button>
        </li>
      ))}
    </ul>
  );
}
