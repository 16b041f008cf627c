/** The header: title, views, labelling, search, undo, export, theme, help. */
import { useEffect, useRef, useState } from "preact/hooks";
import { makeLinks, searches, served } from "../data.js";
import { useKeys } from "../keyboard.js";
import { moving, switchMotion, switchTheme, theme } from "../preferences.js";
import { go, link, route, setQuery } from "../route.js";
import { annotations, collection, dialog, labellingName, pageTitle, problem, redo, undo } from "../store.js";
import { count, counted, visible } from "../text.jsx";
import { Icon, IconButton } from "./icons.jsx";

export function Header() {
  const { view } = route.value;
  const at = ["map", "find", "next"].includes(view) ? view : "clusters";
  const href = (path) => link(path);
  return (
    <header class="header">
      <a class="brand" href={href("clusters")} title={visible(pageTitle.value)}>
        <Mark />
        <bdi>{visible(pageTitle.value)}</bdi>
      </a>
      <nav class="tabs" aria-label="Views">
        <a href={href("clusters")} aria-current={at === "clusters" ? (view === "clusters" ? "page" : "true") : undefined}>
          Clusters
        </a>
        {collection.value?.map && (
          <a href={href("map")} aria-current={at === "map" ? "page" : undefined}>
            Map
          </a>
        )}
        {searches && (
          <a href={href("find")} aria-current={at === "find" ? "page" : undefined}>
            Find
          </a>
        )}
        {served && (
          <a href={href("next")} aria-current={at === "next" ? "page" : undefined} title="Videos to look at next (g n)">
            Look next
          </a>
        )}
      </nav>
      <LabellingSwitch />
      <Search />
      <div class="tools">
        {served && <UndoButtons />}
        <IconButton
          icon={moving.value ? "pause" : "play"}
          label={moving.value ? "Pause all thumbnails" : "Play all thumbnails"}
          hint={moving.value ? "Pause all thumbnails (p)" : "Play all thumbnails (p)"}
          onClick={switchMotion}
        />
        <ExportMenu />
        <IconButton
          icon={theme.value === "dark" ? "sun" : "moon"}
          label={theme.value === "dark" ? "Light theme" : "Dark theme"}
          onClick={switchTheme}
        />
        <IconButton icon="help" label="Help and keyboard shortcuts" hint="Help and keyboard shortcuts (?)" onClick={() => (dialog.value = { kind: "help" })} />
      </div>
    </header>
  );
}

const Mark = () => (
  <svg class="brand-mark" viewBox="0 0 16 16" width="22" height="22" aria-hidden="true" focusable="false">
    <circle cx="5" cy="5" r="3.4" fill="#0f7f86" />
    <circle cx="11.6" cy="7" r="2.4" fill="#c9661a" />
    <circle cx="6.5" cy="12" r="2.4" fill="#7557b8" />
  </svg>
);

/** A cluster of one labelling is not that of another: from a cluster's page one goes to all clusters. */
function LabellingSwitch() {
  const all = collection.value?.labellings ?? [];
  if (all.length < 2) return null;
  const change = (event) => {
    const name = event.currentTarget.value;
    const labelling = name === all[0].name ? null : name;
    if (route.value.view === "cluster") go(`#/clusters${labelling === null ? "" : `?labelling=${encodeURIComponent(name)}`}`);
    else setQuery({ labelling });
  };
  return (
    <label class="labelling-switch">
      <span class="visually-hidden">Labelling</span>
      <select value={labellingName.value} onChange={change} title="Labels of all heads together, or of one head">
        {all.map(({ name, title }) => (
          <option key={name} value={name}>
            {visible(title)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** On the view of all clusters the search follows the typing; elsewhere Enter goes there. */
function Search() {
  const input = useRef(null);
  const { view, query } = route.value;
  const there = view === "clusters" ? (query.get("q") ?? "") : "";
  useEffect(() => {
    if (document.activeElement !== input.current) input.current.value = there;
  }, [there, view]);
  useKeys({
    "/": () => {
      input.current.focus();
      input.current.select();
    },
  });
  const typed = () => {
    if (route.value.view === "clusters") setQuery({ q: input.current.value }, { replace: true });
  };
  const submit = (event) => {
    event.preventDefault();
    if (route.value.view !== "clusters") go(link("clusters", { q: input.current.value }));
  };
  return (
    <form class="search" role="search" onSubmit={submit}>
      <Icon name="search" />
      <input
        ref={input}
        type="search"
        aria-label="Search clusters, classes and videos"
        placeholder="Search clusters and videos"
        title="Search (/)"
        autoComplete="off"
        spellcheck={false}
        onInput={typed}
        onKeyDown={(event) => event.key === "Escape" && !event.currentTarget.value && event.currentTarget.blur()}
      />
    </form>
  );
}

function UndoButtons() {
  const { undo: back, redo: forth } = annotations.value ?? {};
  const back_ = back ? `Undo: ${visible(back)}` : "Nothing to undo";
  const forth_ = forth ? `Redo: ${visible(forth)}` : "Nothing to redo";
  return (
    <>
      <IconButton icon="undo" label={back_} hint={`${back_} (u)`} aria-disabled={!back} onClick={undo} />
      <IconButton icon="redo" label={forth_} hint={`${forth_} (Shift u)`} aria-disabled={!forth} onClick={redo} />
    </>
  );
}

function ExportMenu() {
  const [open, setOpen] = useState(false);
  const [made, setMade] = useState(null);
  const menu = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    const outside = (event) => !menu.current.contains(event.target) && setOpen(false);
    addEventListener("pointerdown", outside);
    addEventListener("focusin", outside);
    return () => {
      removeEventListener("pointerdown", outside);
      removeEventListener("focusin", outside);
    };
  }, [open]);
  const close = (event) => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    setOpen(false);
    menu.current.querySelector("button").focus();
  };
  const labelling = encodeURIComponent(labellingName.value ?? "");
  const kinds = served ? ["csv", "json", "parquet"] : ["csv", "json"];
  const address = (kind) => (served ? `api/export/labels.${kind}?labelling=${labelling}` : `labels.${kind}`);
  const links = async () => {
    try {
      setMade(await makeLinks(labellingName.value));
    } catch (error) {
      problem.value = error.message;
      setOpen(false);
    }
  };
  return (
    <div class="menu" ref={menu} onKeyDown={close}>
      <button
        type="button"
        class="icon-button"
        aria-label="Export labels"
        title="Export labels"
        aria-expanded={open}
        aria-controls="export-menu"
        onClick={() => setOpen(!open)}
      >
        <Icon name="export" />
      </button>
      <div id="export-menu" class="menu-sheet" hidden={!open}>
        <p class="menu-title">{served ? "Current labels, with edits" : "Labels, with edits"}</p>
        {kinds.map((kind) => (
          <a key={kind} class="menu-item" href={address(kind)} download={`labels.${kind}`} onClick={() => setOpen(false)}>
            {{ csv: "CSV", json: "JSON", parquet: "Parquet" }[kind]}
          </a>
        ))}
        {served && (
          <button type="button" class="menu-item" onClick={links}>
            Folder of links
          </button>
        )}
        {made && (
          <p class="menu-answer" role="status">
            {counted(made.links, "link")} in <bdi class="path">{visible(made.folder)}</bdi>
            {made.missing > 0 && `, ${count(made.missing)} of them to missing videos`}
          </p>
        )}
      </div>
    </div>
  );
}
