/** Whether an element is near the window, so that what is far need not be drawn. */
import { useLayoutEffect, useState } from "preact/hooks";

const watched = new WeakMap();
const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) watched.get(entry.target)?.(entry.isIntersecting);
  },
  { rootMargin: "400px 0px" },
);

export function useNear(element) {
  const [near, setNear] = useState(false);
  useLayoutEffect(() => {
    const target = element.current;
    watched.set(target, setNear);
    observer.observe(target);
    return () => observer.unobserve(target);
  }, []);
  return near;
}
