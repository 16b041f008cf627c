/** The icons, drawn on a grid of 20 by 20 with a line of 1.6. All are decoration: what carries them has a name. */

const paths = {
  undo: "M7 5 3.5 8.5 7 12M4 8.5h7.5a4.2 4.2 0 0 1 0 8.4H8",
  redo: "M13 5l3.500 3.500L13 12M16 8.500H8.500a4.200 4.200 0 0 0 0 8.400H12",
  play: "M6.500 4.500v11l9-5.500z",
  pause: "M7 4.500v11M13 4.500v11",
  sun: "M10 6.600a3.400 3.400 0 1 0 0 6.800 3.400 3.400 0 0 0 0-6.800M10 2v1.600M10 16.400V18M2 10h1.600M16.400 10H18M4.300 4.300l1.200 1.200M14.500 14.500l1.200 1.200M4.300 15.700l1.200-1.200M14.500 5.500l1.200-1.200",
  moon: "M16.500 11.800A7 7 0 0 1 8.200 3.500a7 7 0 1 0 8.300 8.300z",
  help: "M7.600 7.700a2.500 2.500 0 1 1 3.600 2.200c-.8.4-1.200.9-1.200 1.800M10 14.400v.1M10 2.500a7.500 7.500 0 1 0 0 15 7.500 7.500 0 0 0 0-15",
  export: "M10 3v9M6.500 9 10 12.500 13.500 9M4 15.500h12",
  search: "M9 3.500a5.500 5.500 0 1 0 0 11 5.500 5.500 0 0 0 0-11M13 13l4 4",
  sound: "M4 8v4h2.500L10 15V5L6.500 8zM12.800 7.500a3.500 3.500 0 0 1 0 5M15 5.500a6.300 6.300 0 0 1 0 9",
  stop: "M5.500 5.500h9v9h-9z",
  cross: "M5.500 5.500l9 9M14.500 5.500l-9 9",
  pencil: "M4 16l.8-3.400L13.200 4.200l2.600 2.600L7.400 15.200zM11.500 6l2.600 2.600",
  merge: "M5 3.500v3c0 3.500 5 3 5 6.500v3.500M15 3.500v3c0 3.500-5 3-5 6.500M7.500 14 10 16.500 12.500 14",
  move: "M3.500 10h12M11.500 6l4 4-4 4",
  check: "M4 10.500 8 14.500 16 6",
  upload: "M10 13V4M6.500 7.500 10 4l3.500 3.500M4 15.500h12",
  flag: "M5 17V3.500h9.500l-2 3.500 2 3.500H5",
  left: "M12 4.500 6.500 10l5.500 5.500",
  right: "M8 4.500 13.500 10 8 15.500",
  filter: "M3.500 5.500h13M6 10h8M8.500 14.500h3",
  cards: "M3.500 3.500h5.500v5.500H3.500zM11 3.500h5.500v5.500H11zM3.500 11h5.500v5.500H3.500zM11 11h5.500v5.500H11z",
  table: "M3.500 5h13M3.500 10h13M3.500 15h13",
  up: "M10 16V4.500M5.500 9 10 4.500 14.500 9",
  down: "M10 4v11.500M5.500 11l4.500 4.500 4.500-4.500",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  whole: "M4 7.500V4h3.500M16 7.500V4h-3.500M4 12.500V16h3.500M16 12.500V16h-3.500",
  lasso: "M10 3.500c3.900 0 7 1.900 7 4.300s-3.100 4.300-7 4.300-7-1.900-7-4.300 3.100-4.300 7-4.300M6.500 11.700c-1 1.500-.2 2.800 1 3.300.9.300.9 1.500 0 2",
};

export function Icon({ name }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
      <path d={paths[name]} fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

/** A button that is an icon only; its name is read out and shown as a hint. */
export function IconButton({ icon, label, hint = label, ...rest }) {
  return (
    <button type="button" class="icon-button" aria-label={label} title={hint} {...rest}>
      <Icon name={icon} />
    </button>
  );
}
