// The table of keys: failing keys first, ten rows at a time.

import { announce } from "./announcements.js";
import { conditionOf, CONDITIONS, isIn } from "./conditions.js";
import { byId, setText } from "./elements.js";
import { count, counted } from "./figures.js";
import { KeyRow } from "./keyrow.js";

const PAGE = 10;
const MOST_ANNOUNCED = 3;

/** `change` is that of `KeyRow`. */
export class KeyTable {
  #change;
  #keys = [];
  #rows = new Map();
  #conditions = null;
  #first = 0;
  #order = [];
  #body = byId("key-table").tBodies[0];

  constructor(change) {
    this.#change = change;
    byId("search").addEventListener("input", () => this.#turnTo(0));
    byId("key-state").addEventListener("change", () => this.#turnTo(0));
    byId("reset-shown").addEventListener("click", () => this.#resetShown());
    byId("page-back").addEventListener("click", () => this.#turnTo(this.#first - PAGE));
    byId("page-on").addEventListener("click", () => this.#turnTo(this.#first + PAGE));
    this.#body.addEventListener("pointerleave", () => this.#render());
  }

  /** Show the present state of the keys. */
  update(keys) {
    this.#keys = keys;
    this.#tellChanges();
    this.#render();
  }

  #turnTo(first) {
    this.#first = first;
    this.#order = [];
    this.#render();
  }

  #render() {
    const wanted = this.#wanted();
    const lastPage = Math.floor(Math.max(0, wanted.length - 1) / PAGE) * PAGE;
    this.#first = Math.max(0, Math.min(this.#first, lastPage));
    const shown = this.#inTheirPlaces(wanted.slice(this.#first, this.#first + PAGE));
    this.#place(shown);
    this.#tellPage(wanted.length);
    this.#offerReset(wanted.length);
  }

  /** Only while a filter is set, so that nobody resets all keys by mistake. */
  #offerReset(number) {
    const button = byId("reset-shown");
    button.hidden = number === 0 || (byId("key-state").value === "" && words() === "");
    setText(button, `Reset these ${count(number)}`);
  }

  #resetShown() {
    const state = byId("key-state").value;
    return this.#change.resetMany(this.#wanted(), words() === "" ? state : "");
  }

  /** The keys that match the filter, worst first, then in the file's order. */
  #wanted() {
    const wanted = words();
    const state = byId("key-state").value;
    return this.#keys
      .filter((key) => isIn(key, state) && (wanted === "" || told(key).includes(wanted)))
      .map((key) => [CONDITIONS[conditionOf(key)].rank, key])
      .sort(([one], [other]) => one - other)
      .map(([, key]) => key);
  }

  /** Keep the order of the rows while the pointer or the focus is in the table. */
  #inTheirPlaces(keys) {
    const ids = new Set(keys.map((key) => key.id));
    const held = this.#body.matches(":hover") || this.#body.contains(document.activeElement);
    if (held && ids.size === this.#order.length && this.#order.every((id) => ids.has(id))) {
      const place = new Map(this.#order.map((id, index) => [id, index]));
      keys.sort((one, other) => place.get(one.id) - place.get(other.id));
    }
    this.#order = keys.map((key) => key.id);
    return keys;
  }

  #place(keys) {
    const rows = new Map();
    for (const key of keys) {
      const row = this.#rows.get(key.id) ?? new KeyRow(this.#change);
      row.update(key);
      rows.set(key.id, row);
    }
    this.#rows = rows;
    const nodes = [...rows.values()].map((row) => row.node);
    const present = [...this.#body.rows];
    if (nodes.length !== present.length || nodes.some((node, at) => node !== present[at])) {
      const focused = document.activeElement;
      this.#body.replaceChildren(...nodes);
      if (this.#body.contains(focused)) {
        focused.focus({ preventScroll: true });
      }
    }
  }

  #tellPage(number) {
    const last = Math.min(number, this.#first + PAGE);
    const all = this.#keys.length;
    const range = `${count(this.#first + 1)} to ${count(last)}`;
    setText(byId("page-words"), `${range} of ${counted(number, "key")}`);
    byId("pages").hidden = number <= PAGE;
    byId("page-back").disabled = this.#first === 0;
    byId("page-on").disabled = last === number;
    byId("no-keys").hidden = number > 0;
    byId("key-table").hidden = number === 0;
    setText(byId("no-keys"), all === 0 ? "There are no keys in the file." : this.#nothingFound());
  }

  #nothingFound() {
    return byId("key-state").value === "trouble" && words() === ""
      ? "No key is in trouble."
      : "No such key.";
  }

  #tellChanges() {
    const before = this.#conditions;
    this.#conditions = new Map(this.#keys.map((key) => [key.id, conditionOf(key)]));
    if (before === null) {
      return;
    }
    const changed = this.#keys.filter(
      (key) => before.has(key.id) && before.get(key.id) !== this.#conditions.get(key.id),
    );
    const sentences = changed
      .slice(0, MOST_ANNOUNCED)
      .map((key) => `${key.name}: ${CONDITIONS[conditionOf(key)].word}.`);
    if (changed.length > MOST_ANNOUNCED) {
      sentences.push(`And ${count(changed.length - MOST_ANNOUNCED)} more keys.`);
    }
    if (sentences.length > 0) {
      announce(sentences.join(" "));
    }
  }
}

/** The words of a search. */
function words() {
  return byId("search").value.trim().toLowerCase();
}

/** The text of a key that is searched. */
function told(key) {
  const words = [key.name, key.project, key.id, key.masked, CONDITIONS[conditionOf(key)].word];
  return [...words, key.last_error?.message ?? ""].join("\n").toLowerCase();
}
