// A chart of the latest latencies of one key.

import { drawing } from "./elements.js";

const WIDTH = 84;
const HEIGHT = 24;
const INSET = 2.5;

/** A small curve of `values`, oldest first; a dot if there is only one. */
export function sparkline(values, words) {
  const points = placed(values);
  const last = points[points.length - 1];
  return drawing(
    "svg",
    {
      class: "sparkline",
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      width: WIDTH,
      height: HEIGHT,
      role: "img",
      "aria-label": words,
    },
    drawing("path", { d: `M${points.map((point) => point.join(" ")).join("L")}`, fill: "none" }),
    drawing("circle", { cx: last[0], cy: last[1], r: 2 }),
  );
}

function placed(values) {
  // The scale begins at zero, so that small differences look small.
  const highest = Math.max(...values, 1);
  const step = (WIDTH - 2 * INSET) / Math.max(1, values.length - 1);
  const indent = values.length === 1 ? WIDTH - INSET : INSET;
  return values.map((value, index) => [
    rounded(indent + index * step),
    rounded(HEIGHT - INSET - (value / highest) * (HEIGHT - 2 * INSET)),
  ]);
}

function rounded(number) {
  return Math.round(number * 10) / 10;
}
