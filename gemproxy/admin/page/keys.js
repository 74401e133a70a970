// The table of keys: those in trouble first.

import { announce } from "./announcements.js";
import { conditionOf, CONDITIONS, groupOf, isIn, reasonOf, WORDS } from "./conditions.js";
import { byId, setText } from "./elements.js";
import { count, counted } from "./figures.js";
import { explainer } from "./help.js";
import { keyColumns } from "./keyrow.js";
import { DataTable } from "./table.js";

const MOST_ANNOUNCED = 3;
/** From so many keys on the rows are compact, unless the user wants it otherwise. */
const MANY = 50;
const ACTIONS = { reset: "Reset", enable: "Enable", disable: "Disable" };
const GROUPS = {
  "": null,
  state: (key) => CONDITIONS[conditionOf(key)].word,
  project: (key) => key.project,
  reason: groupOf,
};

/** `change` has a method for each change, which gets the key, and `many`. */
export class KeyTable {
  #change;
  #version = "";
  #keys = new Map();
  #conditions = null;
  #table;

  constructor(change) {
    this.#change = change;
    this.#table = new DataTable({
      name: "key-table",
      caption: "Every key with its state.",
      place: byId("key-place"),
      noun: "key",
      id: (key) => key.id,
      nameOf: (key) => key.name,
      order: "state",
      columns: keyColumns(change),
      tone: (key) => CONDITIONS[conditionOf(key)].tone,
      summary,
      selected: () => this.#offerChanges(),
    });
    byId("search").addEventListener("input", () => this.#filter());
    byId("key-state").addEventListener("change", () => this.#filter());
    byId("key-group").addEventListener("change", () =>
      this.#table.groupBy(GROUPS[byId("key-group").value]),
    );
    byId("dense").addEventListener("change", () => this.#densely(byId("dense").checked));
    byId("clear-keys").addEventListener("click", () => this.#table.clear());
    for (const action of Object.keys(ACTIONS)) {
      byId(`${action}-shown`).addEventListener("click", () => this.#changeMany(action));
    }
    byId("key-help").append(explainer(WORDS, "operations.md#a-key-needs-attention"));
  }

  /** Ask the API for the keys that have changed; resolves with a function that shows the answer. */
  async poll(api) {
    const answer = await api.get(`keys?since=${this.#version}`);
    return () => this.#apply(answer);
  }

  #apply({ version = "", complete = true, keys }) {
    if (this.#version === "" && keys.length > MANY) {
      byId("dense").checked = true;
      this.#densely(true);
    }
    this.#version = version;
    if (!complete && keys.length === 0) {
      return;
    }
    if (complete) {
      this.#keys = new Map();
    }
    for (const key of keys) {
      this.#keys.set(key.id, key);
    }
    this.#tellChanges();
    this.#render();
  }

  #filter() {
    this.#table.rewind();
    this.#render();
  }

  #render() {
    this.#table.update(this.#wanted(), this.#nothing());
    this.#offerChanges();
  }

  #densely(on) {
    byId("key-place").classList.toggle("dense", on);
  }

  /** The keys that match the filter, in the file's order. */
  #wanted() {
    const wanted = words();
    const state = byId("key-state").value;
    return [...this.#keys.values()].filter(
      (key) => isIn(key, state) && (wanted === "" || told(key).includes(wanted)),
    );
  }

  #nothing() {
    if (this.#keys.size === 0) {
      return "There are no keys in the file.";
    }
    return byId("key-state").value === "trouble" && words() === ""
      ? "No key is in trouble."
      : "No such key.";
  }

  // -- changes of many ----------------------------------------------------------------------------

  /** The selected keys, or those that a filter shows: nobody changes all keys by mistake. */
  #meant() {
    const { chosen } = this.#table;
    if (chosen.length > 0) {
      return { keys: chosen, state: "" };
    }
    const state = byId("key-state").value;
    const filtered = state !== "" || words() !== "";
    return { keys: filtered ? this.#wanted() : [], state: words() === "" ? state : "" };
  }

  #offerChanges() {
    const number = this.#meant().keys.length;
    const chosen = this.#table.chosen.length > 0;
    byId("key-bulk").hidden = number === 0;
    byId("clear-keys").hidden = !chosen;
    setText(byId("bulk-words"), chosen ? `${count(number)} selected` : "");
    for (const [action, word] of Object.entries(ACTIONS)) {
      setText(byId(`${action}-shown`), `${word} these ${count(number)}`);
    }
  }

  async #changeMany(action) {
    const { keys, state } = this.#meant();
    if (await this.#change.many(action, keys, state)) {
      this.#table.clear();
    }
  }

  // -- what is announced --------------------------------------------------------------------------

  #tellChanges() {
    const keys = [...this.#keys.values()];
    const before = this.#conditions;
    this.#conditions = new Map(keys.map((key) => [key.id, conditionOf(key)]));
    if (before === null) {
      return;
    }
    const changed = keys.filter(
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

/** "3 serving, 2 out of quota" */
function summary(keys) {
  const numbers = new Map();
  for (const key of keys) {
    const { word } = CONDITIONS[conditionOf(key)];
    numbers.set(word, (numbers.get(word) ?? 0) + 1);
  }
  const requests = keys.reduce((sum, key) => sum + key.requests_total, 0);
  const states = [...numbers].map(([word, number]) => `${count(number)} ${word.toLowerCase()}`);
  return [...states, counted(requests, "request")].join(", ");
}

/** The words of a search. */
function words() {
  return byId("search").value.trim().toLowerCase();
}

/** The text of a key that is searched. */
function told(key) {
  const parts = [key.name, key.project, key.id, key.masked, CONDITIONS[conditionOf(key)].word];
  return [...parts, reasonOf(key), key.last_error?.message ?? ""].join("\n").toLowerCase();
}
