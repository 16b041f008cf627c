/** Chooses a cluster by typing a part of its name: to move videos to, or to merge another cluster into. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { clustering, clearSelection, dialog, mergeCluster, moveVideos, nameOfVideo, titleOfCluster } from "../store.js";
import { go, link, route } from "../route.js";
import { Name, count, counted, visible } from "../text.jsx";
import { Dialog } from "./dialog.jsx";
import { Dot, clusterPath } from "./cluster_name.jsx";
import { Icon } from "./icons.jsx";
import { Strip } from "./strip.jsx";

const MOST_SHOWN = 60;

export function MoveDialog({ videos }) {
  const here = videos.length ? clustering.value.of[videos[0]] : null;
  const title = `Move ${videos.length === 1 ? nameOfVideo(videos[0]) : counted(videos.length, "video")} to …`;
  const choose = async (to, name) => {
    if (await moveVideos(videos, to, name)) clearSelection();
  };
  return <Picker title={title} without={videos.length === 1 ? here : null} onChoose={choose} canMake />;
}

export function MergeDialog({ cluster }) {
  const choose = async (into) => {
    const from = clusterPath(cluster);
    if ((await mergeCluster(cluster, into)) && `${route.value.view}/${route.value.id}` === from) {
      go(link(clusterPath(into)));
    }
  };
  return <Picker title={`Merge ${titleOfCluster(cluster)} into …`} without={cluster} onChoose={choose} />;
}

function Picker({ title, without, onChoose, canMake = false }) {
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef(null);
  const options = optionsFor(typed.trim(), without, canMake);
  const here = Math.min(at, options.length - 1);

  useLayoutEffect(() => {
    list.current.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }, [here, typed]);

  return (
    <Dialog title={title} class="picker">
      {(close) => {
        const choose = (option) => {
          close();
          if (option.made) onChoose("new", option.made);
          else onChoose(option.cluster.id);
        };
        const onKeyDown = (event) => {
          const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
          if (event.key in steps) setAt(Math.max(0, Math.min(here + steps[event.key], options.length - 1)));
          else if (event.key === "Enter" && options[here]) choose(options[here]);
          else return;
          event.preventDefault();
        };
        return (
          <>
            <div class="picker-search">
              <Icon name="search" />
              <input
                type="text"
                data-first
                role="combobox"
                aria-expanded="true"
                aria-controls="picker-list"
                aria-activedescendant={here >= 0 ? `picker-${here}` : undefined}
                aria-label="Name or number of the cluster"
                placeholder={canMake ? "Name or number; or a new name" : "Name or number"}
                autoComplete="off"
                spellcheck={false}
                value={typed}
                onInput={(event) => {
                  setTyped(event.currentTarget.value);
                  setAt(0);
                }}
                onKeyDown={onKeyDown}
              />
            </div>
            <ul class="picker-list" id="picker-list" role="listbox" aria-label="Clusters" ref={list}>
              {options.map((option, index) => (
                <li
                  key={option.made ? "new" : option.cluster.id}
                  id={`picker-${index}`}
                  role="option"
                  aria-selected={index === here}
                  data-cluster={option.made ? "new" : option.cluster.id}
                  onClick={() => choose(option)}
                >
                  {option.made ? <NewOption name={option.made} /> : <Option cluster={option.cluster} />}
                </li>
              ))}
            </ul>
            {options.length === 0 && <p class="quiet picker-empty">No cluster has this name.</p>}
          </>
        );
      }}
    </Dialog>
  );
}

function Option({ cluster }) {
  return (
    <>
      <span class="picker-strip">{cluster.size > 0 && <Strip key={cluster.members[0]} video={cluster.members[0]} />}</span>
      <Dot id={cluster.id} />
      <span class="picker-name">
        <Name>{cluster.title}</Name>
        {cluster.name && <span class="quiet"> cluster {cluster.id}</span>}
      </span>
      <span class="quiet">{count(cluster.size)}</span>
    </>
  );
}

const NewOption = ({ name }) => (
  <>
    <span class="picker-strip picker-plus">
      <Icon name="plus" />
    </span>
    <span class="picker-name">
      New cluster “<bdi>{visible(name)}</bdi>”
    </span>
  </>
);

/** The clusters that fit what was typed: exact ones first, then by size. */
function optionsFor(typed, without, canMake) {
  const wanted = typed.toLowerCase();
  const rank = ({ id, title }) => (String(id) === wanted || title.toLowerCase() === wanted ? 0 : 1);
  const options = clustering.value.list
    .filter(({ id, title }) => id !== without && (title.toLowerCase().includes(wanted) || String(id) === wanted))
    .sort((a, b) => rank(a) - rank(b) || b.size - a.size)
    .slice(0, MOST_SHOWN)
    .map((cluster) => ({ cluster }));
  const taken = options.some(({ cluster }) => rank(cluster) === 0);
  if (canMake && typed && !taken) options.push({ made: typed });
  return options;
}

/** The dialog that is open. */
export function OpenDialog({ help: Help }) {
  const open = dialog.value;
  if (open?.kind === "move") return <MoveDialog videos={open.videos} />;
  if (open?.kind === "merge") return <MergeDialog cluster={open.cluster} />;
  return open?.kind === "help" ? <Help /> : null;
}
