// A shape for each state, so that colour is not the only difference.

import { drawing } from "./elements.js";

const OUTLINES = {
  // A full disc, a triangle, a diamond, an hourglass, a bar, a ring.
  disc: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z",
  triangle: "M8 1 15.5 14.5H.5z",
  diamond: "M8 .8 15.2 8 8 15.2.8 8z",
  hourglass: "M2.5 1h11v2.2L9.4 8l4.1 4.8V15h-11v-2.2L6.6 8 2.5 3.2z",
  bar: "M1.5 5.8h13v4.4h-13z",
  ring: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zm0 3a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7z",
};

/** The SVG of a shape, in the colour of the surrounding text. */
export function shape(name, size = 14) {
  return drawing(
    "svg",
    { viewBox: "0 0 16 16", width: size, height: size, class: "shape", "aria-hidden": "true" },
    drawing("path", { d: OUTLINES[name], fill: "currentColor", "fill-rule": "evenodd" }),
  );
}
