/**
 * Arrows move among the `[data-rove]` of a container, of which one at a time can be reached with Tab. Works on the
 * elements as they lie on the page, in one column or many.
 */
import { useEffect } from "preact/hooks";

export function useRoving(container) {
  useEffect(() => keepOneReachable(container.current));
  useEffect(() => {
    const element = container.current;
    const onFocus = (event) => event.target.matches("[data-rove]") && makeReachable(element, event.target);
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !event.target.matches("[data-rove]")) return;
      const next = neighbour([...element.querySelectorAll("[data-rove]")], event.target, event.key);
      if (!next) return;
      event.preventDefault();
      next.focus();
    };
    element.addEventListener("focusin", onFocus);
    element.addEventListener("keydown", onKey);
    return () => {
      element.removeEventListener("focusin", onFocus);
      element.removeEventListener("keydown", onKey);
    };
  }, []);
}

function keepOneReachable(element) {
  const all = element.querySelectorAll("[data-rove]");
  if (all.length && ![...all].some((one) => one.tabIndex === 0)) all[0].tabIndex = 0;
}

function makeReachable(element, chosen) {
  for (const one of element.querySelectorAll('[data-rove][tabindex="0"]')) if (one !== chosen) one.tabIndex = -1;
  chosen.tabIndex = 0;
}

function neighbour(all, from, key) {
  const at = all.indexOf(from);
  const columns = columnsOf(all);
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -at, End: all.length - 1 - at };
  return key in steps ? all[at + steps[key]] : undefined;
}

function columnsOf(all) {
  const top = all[0].getBoundingClientRect().top;
  const next = all.findIndex((one) => Math.abs(one.getBoundingClientRect().top - top) > 8);
  return next < 0 ? all.length : next;
}
