/** A native dialog: Escape and a click beside it close it, and the focus goes back to where it was. */
import { useLayoutEffect, useRef } from "preact/hooks";
import { dialog } from "../store.js";
import { IconButton } from "./icons.jsx";

export function Dialog({ title, class: className = "", children }) {
  const element = useRef(null);
  useLayoutEffect(() => {
    const shown = element.current;
    shown.showModal();
    shown.querySelector("[data-first]")?.focus();
    return () => shown.open && shown.close();
  }, []);
  const close = () => element.current.close();
  return (
    <dialog
      ref={element}
      class={`dialog ${className}`}
      aria-labelledby="dialog-title"
      onClose={() => {
        dialog.value = null;
      }}
      onClick={(event) => event.target === element.current && close()}
    >
      <div class="dialog-body">
        <header class="dialog-head">
          <h2 id="dialog-title">{title}</h2>
          <IconButton icon="cross" label="Close" onClick={close} />
        </header>
        {typeof children === "function" ? children(close) : children}
      </div>
    </dialog>
  );
}
