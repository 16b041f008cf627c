/** Videos that are similar to a text, or to a video, sound or picture that is dropped on the page. */
import { useEffect, useRef } from "preact/hooks";
import { findLike } from "../parts/drop.jsx";
import { VideoGrid, noteOfVideo } from "../parts/grid.jsx";
import { Heading } from "../parts/heading.jsx";
import { Icon } from "../parts/icons.jsx";
import { ability, askText, learnAbility, question } from "../finding.js";
import { go, link, route, setQuery } from "../route.js";
import { clustering } from "../store.js";
import { counted, visible } from "../text.jsx";

const SPACES = { video: "By picture", audio: "By sound", clusters: "By clusters" };

export function FindView() {
  const text = route.value.query.get("text");
  useEffect(() => void learnAbility(), []);
  useEffect(() => {
    const asked = question.peek();
    if (text && !(asked?.kind === "text" && asked.what === text && !asked.failed)) askText(text);
  }, [text]);
  return (
    <div class="find-view">
      <header class="intro">
        <Heading title="Find videos" />
        <p class="quiet">that are similar to a text, or to a video, sound or picture of yours</p>
      </header>
      <div class="find-ways">
        <ByText text={text} />
        <ByFile />
      </div>
      {question.value && <Answer asked={question.value} />}
    </div>
  );
}

function ByText({ text }) {
  const input = useRef(null);
  const refusal = ability.value?.refusals.text;
  useEffect(() => {
    if (input.current && text !== null) input.current.value = text;
  }, [text]);
  if (refusal) return <p class="find-way quiet">{visible(refusal)}</p>;
  const submit = (event) => {
    event.preventDefault();
    const wanted = input.current.value.trim();
    if (!wanted) return;
    if (wanted === text) askText(wanted);
    else go(link("find", { text: wanted }));
  };
  return (
    <form class="find-way" onSubmit={submit}>
      <label class="field field-above find-text">
        <span>A text</span>
        <input ref={input} type="text" placeholder="a dog barking" maxLength={1000} autoComplete="off" />
      </label>
      <button type="submit" class="button">
        <Icon name="search" /> Find
      </button>
    </form>
  );
}

function ByFile() {
  const input = useRef(null);
  const refusal = ability.value?.refusals.file;
  if (refusal) return <p class="find-way quiet">{visible(refusal)}</p>;
  const chosen = () => {
    findLike(input.current.files[0]);
    input.current.value = "";
  };
  return (
    <div class="find-way find-drop">
      <p>Drop a video, a sound or a picture anywhere on this page, or</p>
      <button type="button" class="button" onClick={() => input.current.click()}>
        <Icon name="upload" /> Choose a file
      </button>
      <input
        ref={input}
        type="file"
        hidden
        aria-label="File to find similar videos of"
        accept={ability.value?.endings.join(",")}
        onChange={chosen}
      />
    </div>
  );
}

function Answer({ asked: { kind, what, found, failed } }) {
  const wanted = route.value.query.get("by");
  const title = <bdi>{visible(what)}</bdi>;
  if (failed) {
    return (
      <p class="notice find-notice" role="alert">
        {visible(failed)}
      </p>
    );
  }
  if (!found) {
    return (
      <p class="quiet waiting" role="status">
        Looking for videos like “{title}” … The first search loads the networks and takes longer.
      </p>
    );
  }
  const groups = found.filter(({ videos }) => videos.length > 0);
  const group = groups.find(({ by }) => by === wanted) ?? groups[0];
  if (!group) return <p role="status">Nothing was found.</p>;
  return (
    <section aria-labelledby="found-title">
      <div class="videos-head">
        <h2 id="found-title">Most similar to “{title}”</h2>
        <p class="tally" role="status">
          {counted(group.videos.length, "video")}, with {kind === "text" ? `similarities by ${visible(group.by)}` : "distances"}
        </p>
        <span class="spring" />
        {groups.length > 1 && (
          <div class="segments" role="group" aria-label="Compared">
            {groups.map(({ by }) => (
              <button type="button" key={by} aria-pressed={by === group.by} onClick={() => setQuery({ by }, { replace: true })}>
                {SPACES[by] ?? `By ${visible(by)}`}
              </button>
            ))}
          </div>
        )}
      </div>
      <Found group={group} />
    </section>
  );
}

function Found({ group }) {
  const values = new Map(group.videos);
  const noteOf = (video) => {
    const cluster = clustering.value.byId.get(clustering.value.of[video]);
    return [values.get(video).toFixed(3), cluster ? visible(cluster.title) : noteOfVideo(video)].join(" · ");
  };
  return <VideoGrid key={group.by} videos={group.videos.map(([video]) => video)} label="Videos found" noteOf={noteOf} />;
}
