// Explains the words of a table where they are used.

import { details, read } from "./dialogs.js";
import { element } from "./elements.js";

const DOCS = document.documentElement.dataset.docs;

/**
 * A button that opens an explanation. `words` are pairs of a term and its meaning; `page` is the
 * page of the documentation that says more.
 */
export function explainer(words, page) {
  const label = "What do the words mean?";
  return element("button", { type: "button", class: "help", click: () => explain(words, page) }, label);
}

function explain(words, page) {
  return read("What the words mean", details(words), documentation(page));
}

/** A link to a page of the documentation; `null` if the package does not say where it is. */
function documentation(page) {
  if (DOCS === "") {
    return null;
  }
  const attributes = { href: new URL(page, DOCS).href, target: "_blank", rel: "noopener noreferrer" };
  return element("p", {}, element("a", attributes, "More in the documentation"));
}
