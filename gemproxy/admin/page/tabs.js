// The tabs. The selected one, with its filters, is the fragment of the address: a link leads to it,
// and the browser's "back" to the one before.

import { byId } from "./elements.js";

const KEYS = { ArrowRight: 1, ArrowLeft: -1 };

/** `changed` is called with the name of the selected tab and its parameters. */
export class Tabs {
  #tabs = [...document.querySelectorAll('[role="tab"]')];
  #changed;
  selected = "";

  constructor(changed) {
    this.#changed = changed;
    for (const tab of this.#tabs) {
      tab.addEventListener("click", () => goTo(nameOf(tab)));
      tab.addEventListener("keydown", (event) => this.#move(event));
    }
    addEventListener("hashchange", () => this.#follow());
  }

  /** Select the tab that the address names; the first one if it names none. */
  start() {
    this.selected = "";
    this.#follow();
    if (this.selected === "") {
      this.#select(nameOf(this.#tabs[0]), "");
    }
  }

  /** A fragment that is no tab's leads to a place within the page. */
  #follow() {
    const [name, query = ""] = location.hash.slice(1).split(/\?(.*)/su);
    if (this.#tabs.some((tab) => nameOf(tab) === name)) {
      this.#select(name, query);
    } else if (name === "") {
      this.#select(nameOf(this.#tabs[0]), "");
    }
  }

  #select(name, query) {
    this.selected = name;
    for (const tab of this.#tabs) {
      const chosen = nameOf(tab) === name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !chosen;
    }
    this.#changed(name, new URLSearchParams(query));
  }

  #move(event) {
    const last = this.#tabs.length - 1;
    const at = this.#tabs.indexOf(event.currentTarget);
    const by = KEYS[event.key];
    const to = { Home: 0, End: last }[event.key] ?? (by && (at + by + last + 1) % (last + 1));
    if (to !== undefined) {
      event.preventDefault();
      this.#tabs[to].focus();
      goTo(nameOf(this.#tabs[to]));
    }
  }
}

/** Select a tab, with the parameters that it understands. */
export function goTo(name, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  location.hash = query === "" ? name : `${name}?${query}`;
}

function nameOf(tab) {
  return tab.id.replace("tab-", "");
}
