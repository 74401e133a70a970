// Messages: shown on the screen for some seconds, and announced to screen readers.

import { byId, setText } from "./elements.js";

const SHOWN_MS = 6000;
let timer = null;

/** Show the result of an action of the user. */
export function toast(message) {
  const node = byId("toast");
  clearTimeout(timer);
  setText(node, message);
  node.classList.add("shown");
  timer = setTimeout(() => node.classList.remove("shown"), SHOWN_MS);
}

/** Announce a change that the user did not make; only screen readers get it. */
export function announce(message) {
  setText(byId("announcer"), message);
}
