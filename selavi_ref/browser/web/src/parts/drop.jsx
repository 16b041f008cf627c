/** A file that is dropped anywhere on the page: similar videos are looked for. */
import { useEffect, useState } from "preact/hooks";
import { askFile } from "../finding.js";
import { go, link } from "../route.js";
import { Icon } from "./icons.jsx";

export function DropPlace() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const isFile = (event) => event.dataTransfer?.types.includes("Files");
    const drag = (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event) => !event.relatedTarget && setOver(false);
    const drop = (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      setOver(false);
      findLike(event.dataTransfer.files[0]);
    };
    addEventListener("dragover", drag);
    addEventListener("dragleave", leave);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragover", drag);
      removeEventListener("dragleave", leave);
      removeEventListener("drop", drop);
    };
  }, []);
  if (!over) return null;
  return (
    <div class="drop-over" aria-hidden="true">
      <p>
        <Icon name="upload" /> Find videos like this file
      </p>
    </div>
  );
}

/** Shows the videos that are most similar to a file; a folder that was dropped is none. */
export function findLike(file) {
  if (!file) return;
  go(link("find"));
  askFile(file);
}
