/** One cluster: its name, its figures, and all its videos, the most typical first. */
import { useMemo } from "preact/hooks";
import { NONE } from "../clusters.js";
import { colourOf } from "../colours.js";
import { served } from "../data.js";
import { useKeys } from "../keyboard.js";
import { ClassBars } from "../parts/bars.jsx";
import { ClusterLink, Dot, NameField } from "../parts/cluster_name.jsx";
import { VideoGrid } from "../parts/grid.jsx";
import { Figure, Heading } from "../parts/heading.jsx";
import { Icon } from "../parts/icons.jsx";
import { Proposals, acceptFirst } from "../parts/proposals.jsx";
import { link, route, setQuery } from "../route.js";
import { clustering, collection, dialog, hasClasses, labelling, renaming, targets } from "../store.js";
import { Name, count, counted, decimal, share, visible } from "../text.jsx";

const BARS = 8;

export function ClusterView({ id }) {
  const cluster = clustering.value.byId.get(id);
  if (cluster) return <Present cluster={cluster} />;
  const into = clustering.value.merged.get(id);
  return (
    <div class="empty">
      <Heading title={titleOfAbsent(id, into)} />
      <p>
        {into !== undefined && (
          <>
            It was merged into <ClusterLink id={into} />.{" "}
          </>
        )}
        <a href={link("clusters")}>All clusters</a>
      </p>
    </div>
  );
}

/** Where there are very many numbers, those without videos are not among the clusters. */
function titleOfAbsent(id, into) {
  if (id === NONE) return "Every video has a label";
  const hidden = into === undefined && id >= 0 && id < labelling.value.clusters;
  return hidden ? `Cluster ${id} has no videos` : `Cluster ${id} no longer exists`;
}

function Present({ cluster }) {
  const { id } = cluster;
  const canEdit = served && id !== NONE;
  useKeys(
    canEdit
      ? {
          r: () => (renaming.value = id),
          a: () => acceptFirst(id),
          m: () => (targets(null).length ? false : (dialog.value = { kind: "merge", cluster: id })),
        }
      : {},
  );
  return (
    <div class="cluster-view">
      <p class="crumbs">
        <a href={link("clusters")}>
          <Icon name="left" /> All clusters
        </a>
      </p>
      <header class="cluster-head">
        <div class="cluster-title">
          <Dot id={id} class="dot-large" />
          {renaming.value === id ? (
            <NameField cluster={cluster} then=".cluster-actions button" />
          ) : (
            <Heading title={cluster.title}>
              <Name>{cluster.title}</Name>
            </Heading>
          )}
          {canEdit && renaming.value !== id && (
            <span class="cluster-actions">
              <button type="button" class="button" onClick={() => (renaming.value = id)} title="Rename (r)">
                <Icon name="pencil" /> Rename
              </button>
              <button type="button" class="button" onClick={() => (dialog.value = { kind: "merge", cluster: id })} title="Merge with another (m)">
                <Icon name="merge" /> Merge …
              </button>
            </span>
          )}
        </div>
        <Origin cluster={cluster} />
        {renaming.value !== id && <Proposals id={id} most={5} />}
        <Figures cluster={cluster} />
      </header>
      {id === NONE && <Reasons cluster={cluster} />}
      {cluster.classes.length > 0 && <Classes cluster={cluster} />}
      <Videos cluster={cluster} />
    </div>
  );
}

/** Its number, if it is called otherwise, and the clusters that it took in. */
function Origin({ cluster: { id, name, absorbed } }) {
  if (!name && !absorbed.length) return null;
  return (
    <p class="quiet">
      {name && `Cluster ${id}`}
      {name && absorbed.length > 0 && ", "}
      {absorbed.length > 0 && `with ${absorbed.length === 1 ? "cluster" : "clusters"} ${absorbed.join(", ")} merged into it`}
    </p>
  );
}

function Figures({ cluster }) {
  const asLearnt = cluster.absorbed.length > 0;
  return (
    <dl class="figures figures-large">
      <Figure title="videos" value={count(cluster.size)} />
      <Figure title="confidence" value={share(cluster.confidence)} known={cluster.confidence !== null} asLearnt={asLearnt} />
      <Figure title="uncertainty" value={decimal(cluster.entropy)} known={cluster.entropy !== null} asLearnt={asLearnt} />
      <Figure title="purity" value={share(cluster.purity)} known={cluster.purity !== null} />
      <Figure title="class entropy" value={decimal(cluster.classEntropy)} known={cluster.classEntropy !== null} />
      <Figure title="marked wrong" value={count(cluster.wrong)} known={cluster.wrong > 0} />
      <Figure title="moved here" value={count(cluster.moved)} known={cluster.moved > 0} />
    </dl>
  );
}

/** Why videos have no label, and how many for each reason. */
function Reasons({ cluster }) {
  const { reason } = collection.value.videos;
  const counts = new Map();
  for (const video of cluster.members) {
    const why = reason[video] ?? "unknown reason";
    counts.set(why, (counts.get(why) ?? 0) + 1);
  }
  return (
    <ul class="reasons">
      {[...counts].sort((a, b) => b[1] - a[1]).slice(0, 20).map(([why, number]) => (
        <li key={why}>
          {counted(number, "video")}: <bdi>{visible(why)}</bdi>
        </li>
      ))}
    </ul>
  );
}

function Classes({ cluster }) {
  const { query } = route.value;
  const { classes } = collection.value;
  const all = query.get("classes") === "all";
  const chosen = classes.indexOf(query.get("class"));
  return (
    <section class="cluster-classes" aria-labelledby="classes-title">
      <h2 id="classes-title">Classes</h2>
      <ClassBars
        classes={cluster.classes}
        colour={colourOf(cluster.id)}
        most={all ? cluster.classes.length : BARS}
        chosen={chosen < 0 ? null : chosen}
        onChoose={(kind) => setQuery({ class: kind === null ? null : classes[kind] })}
      />
      {cluster.classes.length > BARS && (
        <button type="button" class="button button-quiet" onClick={() => setQuery({ classes: all ? null : "all" }, { replace: true })}>
          {all ? "Fewer" : `All ${count(cluster.classes.length)} classes`}
        </button>
      )}
    </section>
  );
}

function Videos({ cluster }) {
  const { query } = route.value;
  const reversed = query.get("order") === "least";
  const only = query.get("show");
  const chosen = hasClasses.value ? collection.value.classes.indexOf(query.get("class")) : -1;
  const videos = useMemo(() => {
    const { wrong, moved } = clustering.value;
    let list = Array.from(cluster.members);
    if (chosen >= 0) list = list.filter((video) => collection.value.videos.class[video] === chosen);
    if (only === "wrong") list = list.filter((video) => wrong.has(video));
    if (only === "moved") list = list.filter((video) => moved.has(video));
    return reversed ? list.reverse() : list;
  }, [cluster, chosen, only, reversed]);
  const shows = ["wrong", "moved"].filter((name) => cluster[name] > 0 || only === name);
  return (
    <section aria-labelledby="videos-title">
      <div class="videos-head">
        <h2 id="videos-title">Videos</h2>
        <p class="tally" role="status">
          {videos.length === cluster.size ? counted(videos.length, "video") : `${count(videos.length)} of ${counted(cluster.size, "video")}`}
          {chosen >= 0 && (
            <>
              {" "}of class <Name>{collection.value.classes[chosen]}</Name>
            </>
          )}
        </p>
        <span class="spring" />
        {shows.length > 0 && (
          <div class="segments" role="group" aria-label="Which videos">
            <button type="button" aria-pressed={!only} onClick={() => setQuery({ show: null })}>
              All
            </button>
            {shows.map((name) => (
              <button type="button" key={name} aria-pressed={only === name} onClick={() => setQuery({ show: name })}>
                {name === "wrong" ? "Marked wrong" : "Moved here"}
              </button>
            ))}
          </div>
        )}
        {cluster.id !== NONE && (
          <div class="segments" role="group" aria-label="Order">
            <button type="button" aria-pressed={!reversed} onClick={() => setQuery({ order: null })}>
              Most typical first
            </button>
            <button type="button" aria-pressed={reversed} onClick={() => setQuery({ order: "least" })}>
              Least typical first
            </button>
          </div>
        )}
      </div>
      {videos.length > 0 ? (
        <VideoGrid videos={videos} label={`Videos of ${visible(cluster.title)}`} />
      ) : (
        <p class="quiet">{cluster.size ? "No video matches." : "This cluster has no videos."}</p>
      )}
    </section>
  );
}
