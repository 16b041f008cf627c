/** All clusters, as cards or as a table: sorted, filtered, searched. */
import { useMemo, useRef } from "preact/hooks";
import { NONE } from "../clusters.js";
import { colourOf } from "../colours.js";
import { searches, served } from "../data.js";
import { useKeys } from "../keyboard.js";
import { RANGES, listClusters, wantedBy } from "../listing.js";
import { ClassBars, heightOfBars } from "../parts/bars.jsx";
import { Dot, NameField, clusterPath } from "../parts/cluster_name.jsx";
import { VideoGrid } from "../parts/grid.jsx";
import { AS_LEARNT, Figure, Heading } from "../parts/heading.jsx";
import { Icon } from "../parts/icons.jsx";
import { useNear } from "../parts/near.js";
import { Proposals, acceptFirst } from "../parts/proposals.jsx";
import { useRoving } from "../parts/rove.js";
import { Strip } from "../parts/strip.jsx";
import { Toolbar, isKnown } from "../parts/toolbar.jsx";
import { link, route, setQuery } from "../route.js";
import { clustering, collection, dialog, hasClasses, labellingName, lowerPaths, renaming } from "../store.js";
import { Name, count, counted, decimal, share, visible } from "../text.jsx";

const THUMBNAILS = 5;
const BARS = 3;
const LEARNT = new Set(["confidence", "entropy"]);

export function ClustersView() {
  const { query } = route.value;
  const { classes } = collection.value;
  const wanted = useMemo(() => wantedBy(query, classes), [query, classes]);
  const all = clustering.value;
  const shown = useMemo(() => listClusters(all, wanted, classes), [all, wanted, classes]);
  const matches = useMemo(() => videosMatching(wanted.text), [wanted.text, collection.value]);
  const asTable = query.get("view") === "table";
  const body = useRef(null);
  const found = useRef(null);
  useRoving(body);
  useClusterKeys(body);
  return (
    <div class="clusters-view">
      <Intro />
      <Toolbar wanted={wanted} asTable={asTable} />
      <p class="tally" role="status">
        {shown.length === all.list.length + (all.none ? 1 : 0)
          ? counted(all.list.length, "cluster")
          : `${count(shown.length)} of ${counted(all.list.length, "cluster")}`}
        {matches.length > 0 && (
          <>
            {" and "}
            <button type="button" class="in-line" onClick={() => found.current.focus()}>
              {counted(matches.length, "video")}
            </button>
          </>
        )}
      </p>
      {searches && wanted.text !== "" && (
        <p class="find-hint">
          <a href={link("find", { text: query.get("q").trim() })}>Find videos by this text</a>
        </p>
      )}
      <div ref={body}>
        {shown.length > 0 && (asTable ? <Table clusters={shown} wanted={wanted} /> : <Cards clusters={shown} wanted={wanted} />)}
      </div>
      {shown.length === 0 && !matches.length && <NothingFits />}
      {matches.length > 0 && (
        <section class="matches" aria-labelledby="matches-title">
          <h2 id="matches-title" ref={found} tabIndex={-1}>
            {counted(matches.length, "video")} with “<bdi>{visible(query.get("q").trim())}</bdi>” in the path
          </h2>
          <VideoGrid videos={matches} label="Videos found" />
        </section>
      )}
    </div>
  );
}

function Intro() {
  const { videos, source, labellings } = collection.value;
  const { title } = labellings.find(({ name }) => name === labellingName.value);
  return (
    <header class="intro">
      <Heading title="Clusters" />
      <p class="quiet">
        {counted(videos.path.length, "video")} of <bdi class="path">{visible(source)}</bdi>
        {labellings.length > 1 && `, labels: ${visible(title)}`}
      </p>
    </header>
  );
}

/** r, a and m are about the cluster under the focus. */
function useClusterKeys(body) {
  const focused = () => {
    const id = document.activeElement?.closest?.("[data-cluster]")?.dataset.cluster;
    return !body.current?.contains(document.activeElement) || id === undefined || Number(id) === NONE ? null : Number(id);
  };
  const about = (action) => () => {
    const id = focused();
    if (id === null) return false;
    return action(id) !== false;
  };
  useKeys(
    served
      ? {
          r: about((id) => void (renaming.value = id)),
          a: about(acceptFirst),
          m: about((id) => void (dialog.value = { kind: "merge", cluster: id })),
        }
      : {},
  );
}

function videosMatching(text) {
  const found = [];
  if (text === "") return found;
  lowerPaths.value.forEach((path, video) => path.includes(text) && found.push(video));
  return found;
}

function NothingFits() {
  const clear = Object.fromEntries(["q", "class", ...Object.keys(RANGES)].map((name) => [name, null]));
  return (
    <div class="empty">
      <p>No cluster or video matches.</p>
      <button type="button" class="button" onClick={() => setQuery(clear)}>
        Show all
      </button>
    </div>
  );
}

/* Cards */

function Cards({ clusters, wanted }) {
  return (
    <ul class={`cards${hasClasses.value ? " cards-classes" : ""}`}>
      {clusters.map((cluster) => (
        <Card
          key={cluster.id}
          cluster={cluster}
          kind={wanted.kind}
          editing={renaming.value === cluster.id}
        />
      ))}
    </ul>
  );
}

function Card({ cluster, kind, editing }) {
  const element = useRef(null);
  const near = useNear(element);
  const { id, size, members, confidence, entropy, purity, wrong } = cluster;
  const asLearnt = cluster.absorbed.length > 0;
  return (
    <li class="card" ref={element} data-cluster={id}>
      <a class="card-pictures" href={link(clusterPath(id))} tabIndex={-1} aria-hidden="true">
        {Array.from({ length: THUMBNAILS }, (_, at) => (
          <span class="card-picture" key={at}>
            {near && at < size && <Strip key={members[at]} video={members[at]} />}
          </span>
        ))}
      </a>
      <div class="card-head">
        {editing ? (
          <NameField cluster={cluster} then={`[data-cluster="${id}"] [data-rove]`} />
        ) : (
          <h2>
            <a class="card-link" href={link(clusterPath(id))} data-rove tabIndex={-1}>
              <Dot id={id} />
              <Name>{cluster.title}</Name>
            </a>
            {cluster.name && <span class="card-number quiet">{id}</span>}
          </h2>
        )}
        <span class="card-size">{count(size)}</span>
      </div>
      {!editing && <Proposals id={id} />}
      <dl class="figures figures-card">
        <Figure title="confidence" value={share(confidence)} known={confidence !== null} asLearnt={asLearnt} />
        <Figure title="uncertainty" value={decimal(entropy)} known={entropy !== null} asLearnt={asLearnt} />
        <Figure title="purity" value={share(purity)} known={purity !== null} />
        <Figure title="wrong" value={count(wrong)} known={wrong > 0} />
      </dl>
      {hasClasses.value && (
        <div class="card-bars" style={{ minHeight: `${heightOfBars(cluster.classes, BARS)}px` }}>
          {near && <ClassBars classes={cluster.classes} colour={colourOf(id)} most={BARS} first={kind} />}
        </div>
      )}
    </li>
  );
}

/* Table */

function Table({ clusters, wanted }) {
  const columns = [
    ["name", "Cluster"],
    ["size", "Videos"],
    ["confidence", "Confidence"],
    ["entropy", "Uncertainty"],
    ["purity", "Purity"],
    ["mixture", "Class entropy"],
  ].filter(([name]) => isKnown(name));
  const largest = clusters.reduce((most, { size }) => Math.max(most, size), 1);
  return (
    <div class="table-place">
      <table class="table">
        <caption class="visually-hidden">Clusters; the heads of columns sort</caption>
        <thead>
          <tr>
            {columns.map(([name, title]) => (
              <SortHead key={name} name={name} title={title} wanted={wanted} />
            ))}
            {hasClasses.value && <th scope="col">Most common classes</th>}
            <SortHead name="wrong" title="Wrong" wanted={wanted} />
          </tr>
        </thead>
        <tbody>
          {clusters.map((cluster) => (
            <Row key={cluster.id} cluster={cluster} columns={columns} largest={largest} editing={renaming.value === cluster.id} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

function SortHead({ name, title, wanted }) {
  const here = wanted.sort === name;
  const press = () => {
    if (here) setQuery({ direction: wanted.down ? "up" : "down" });
    else setQuery({ sort: name === "size" ? null : name, direction: null });
  };
  return (
    <th scope="col" class={`column-${name}`} aria-sort={here ? (wanted.down ? "descending" : "ascending") : undefined}>
      <button type="button" onClick={press}>
        {title}
        {here && <Icon name={wanted.down ? "down" : "up"} />}
      </button>
    </th>
  );
}

function Row({ cluster, columns, largest, editing }) {
  const { id, size, wrong } = cluster;
  const asLearnt = cluster.absorbed.length > 0;
  const cells = {
    size: () => (
      <span class="cell-size">
        <span class="cell-bar" style={{ width: `${(100 * size) / largest}%` }} />
        {count(size)}
      </span>
    ),
    confidence: () => share(cluster.confidence),
    entropy: () => decimal(cluster.entropy),
    purity: () => share(cluster.purity),
    mixture: () => decimal(cluster.classEntropy),
  };
  return (
    <tr data-cluster={id}>
      <th scope="row">
        {editing ? (
          <NameField cluster={cluster} then={`[data-cluster="${id}"] [data-rove]`} />
        ) : (
          <a class="row-link" href={link(clusterPath(id))} data-rove tabIndex={-1}>
            <RowStrip cluster={cluster} />
            <Dot id={id} />
            <Name>{cluster.title}</Name>
            {cluster.name && <span class="quiet">{id}</span>}
          </a>
        )}
        {!editing && <Proposals id={id} most={1} />}
      </th>
      {columns.slice(1).map(([name]) => (
        <td key={name} data-figure={name} title={asLearnt && LEARNT.has(name) ? AS_LEARNT : undefined}>
          {cells[name]()}
        </td>
      ))}
      {hasClasses.value && (
        <td class="cell-classes">
          <ClassWords classes={cluster.classes} />
        </td>
      )}
      <td data-figure="wrong">{wrong > 0 ? count(wrong) : ""}</td>
    </tr>
  );
}

function RowStrip({ cluster }) {
  const element = useRef(null);
  const near = useNear(element);
  return (
    <span class="row-strip" ref={element}>
      {near && cluster.size > 0 && <Strip key={cluster.members[0]} video={cluster.members[0]} />}
    </span>
  );
}

function ClassWords({ classes }) {
  return classes.slice(0, 3).map(([kind, number]) => (
    <span class="class-word" key={kind}>
      <Name>{collection.value.classes[kind]}</Name> <span class="quiet">{count(number)}</span>
    </span>
  ));
}
