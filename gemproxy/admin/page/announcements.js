// What happened, told once: on the screen for a while, and to screen readers.

import { byId, setText } from "./elements.js";

const SHOWN_MS = 6000;
let timer = null;

/** Tell what came of something that the reader did. */
export function toast(message) {
  const node = byId("toast");
  clearTimeout(timer);
  setText(node, message);
  node.classList.add("shown");
  timer = setTimeout(() => node.classList.remove("shown"), SHOWN_MS);
}

/** Tell screen readers what changed by itself. */
export function announce(message) {
  setText(byId("announcer"), message);
}
