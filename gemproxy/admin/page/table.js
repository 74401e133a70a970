// A table: sorted by the column of choice, in groups, in pages, with rows to select. Rows are
// updated in place, so that focus and selection stay.

import { element, foreign, setText, show } from "./elements.js";
import { count, counted } from "./figures.js";

const SIZES = [10, 25, 50, 100, 500];
const COLLATOR = new Intl.Collator("en", { numeric: true });

/**
 * `columns` are objects:
 *   name: for the style; label: the heading; title: its explanation;
 *   number: whether it is aligned as a number;
 *   sort: returns the value of a row to sort by; without it the column does not sort;
 *   descending: whether the largest comes first at the first click;
 *   cell: returns the nodes of a row;
 *   mark: returns the values that `cell` uses, if they are not those of the whole row;
 *   live: instead of `cell`, for buttons: gets a function that returns the present row, returns
 *     the nodes, which stay, and a function that updates them.
 *
 * `place` is the element that gets the table. `noun` names a row, `id` identifies it. `order` is
 * the name of the column by which rows are sorted at first; `null` keeps them as they come. `tone`
 * returns a tone for the whole row, `open` is called when a row is clicked. With `selected` the
 * rows can be selected; it is called whenever the selection has changed.
 */
export class DataTable {
  #options;
  #rows = [];
  #shown = [];
  #entries = new Map();
  #groups = new Map();
  #heads = new Map();
  #sorted;
  #descending = false;
  #group = null;
  #size;
  #first = 0;
  #order = [];
  #pointed = false;
  #chosen = new Set();
  #all = null;
  #table;
  #body = element("tbody", { role: "rowgroup" });
  #empty = element("p", { class: "empty", hidden: true });
  #words = element("span", { role: "status", class: "page-words" });
  #back;
  #next;
  #pages;

  constructor(options) {
    this.#options = { sizes: SIZES, size: 25, order: null, tone: () => null, ...options };
    this.#sorted = this.#options.order;
    this.#descending = this.#column(this.#sorted)?.descending ?? false;
    this.#size = this.#options.size;
    this.#build();
  }

  /** Show `rows`; `nothing` is said if there are none. */
  update(rows, nothing) {
    this.#rows = rows;
    setText(this.#empty, nothing);
    const present = new Set(rows.map(this.#options.id));
    this.#chosen = new Set([...this.#chosen].filter((id) => present.has(id)));
    this.#render();
  }

  /** Group the rows by the text that `of` returns; `null`: do not. */
  groupBy(of) {
    this.#group = of;
    this.turnTo(0);
  }

  /** Show the page that begins with this row. */
  turnTo(first) {
    this.#first = first;
    this.#order = [];
    this.#render();
  }

  /** Begin with the first row at the next update, whose rows are chosen otherwise. */
  rewind() {
    this.#first = 0;
    this.#order = [];
  }

  /** The selected rows, on whatever page they are. */
  get chosen() {
    return this.#rows.filter((row) => this.#chosen.has(this.#options.id(row)));
  }

  /** Select nothing. */
  clear() {
    this.#chosen.clear();
    this.#choiceChanged();
  }

  #column(wanted) {
    return this.#options.columns.find(({ name }) => name === wanted);
  }

  // -- the frame ----------------------------------------------------------------------------------

  #build() {
    const { name, caption, place, columns, selected } = this.#options;
    const heads = columns.map((column) => this.#head(column));
    if (selected) {
      this.#all = element("input", {
        type: "checkbox",
        "aria-label": `Select every ${this.#options.noun} of this page`,
        change: () => this.#chooseAll(),
      });
      heads.unshift(element("th", { role: "columnheader", class: "c-select" }, this.#all));
    }
    this.#table = element(
      "table",
      { id: name, class: "cards", role: "table" },
      element("caption", { class: "hidden" }, caption),
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)),
      this.#body,
    );
    this.#back = element("button", { type: "button" }, "Back");
    this.#back.addEventListener("click", () => this.turnTo(this.#first - this.#size));
    this.#next = element("button", { type: "button" }, "Next");
    this.#next.addEventListener("click", () => this.turnTo(this.#first + this.#size));
    this.#pages = element(
      "nav",
      { class: "pages", "aria-label": `Pages of ${this.#options.noun}s` },
      this.#back,
      this.#words,
      this.#next,
      this.#sizes(),
    );
    // Not by ":hover": a table that appears under a pointer at rest is not pointed at.
    this.#body.addEventListener("pointermove", () => (this.#pointed = true));
    this.#body.addEventListener("pointerleave", () => {
      this.#pointed = false;
      this.#render();
    });
    place.append(this.#table, this.#empty, this.#pages);
    this.#showOrder();
  }

  #head(column) {
    const { label, title = null, sort, number } = column;
    const kind = `c-${column.name}${number ? " number" : ""}`;
    const content = sort
      ? element("button", { type: "button", class: "sort", title }, label)
      : element("span", { title, class: column.unseen ? "hidden" : null }, label);
    const head = element("th", { scope: "col", role: "columnheader", class: kind }, content);
    if (sort) {
      content.addEventListener("click", () => this.#sortBy(column));
      this.#heads.set(column.name, head);
    }
    return head;
  }

  #sizes() {
    const sizes = this.#options.sizes.map((size) =>
      element("option", { value: size, selected: size === this.#size }, count(size)),
    );
    const select = element("select", {}, ...sizes);
    select.addEventListener("change", () => {
      this.#size = Number(select.value);
      this.turnTo(0);
    });
    return element("label", { class: "size" }, "Rows ", select);
  }

  #sortBy({ name, descending = false }) {
    this.#descending = this.#sorted === name ? !this.#descending : descending;
    this.#sorted = name;
    this.#showOrder();
    this.turnTo(0);
  }

  #showOrder() {
    for (const [name, head] of this.#heads) {
      const order = this.#descending ? "descending" : "ascending";
      head.setAttribute("aria-sort", name === this.#sorted ? order : "none");
    }
  }

  // -- the rows -----------------------------------------------------------------------------------

  #render() {
    const groups = this.#group === null ? null : grouped(this.#ordered(), this.#group);
    const ordered = groups === null ? this.#ordered() : [...groups.values()].flat();
    const lastPage = Math.floor(Math.max(0, ordered.length - 1) / this.#size) * this.#size;
    this.#first = Math.max(0, Math.min(this.#first, lastPage));
    this.#shown = this.#inTheirPlaces(ordered.slice(this.#first, this.#first + this.#size));
    this.#place(groups);
    this.#tellPage(ordered.length);
    this.#showChoice();
  }

  /** Without a value last, whatever the order; equal ones as they came. */
  #ordered() {
    const column = this.#column(this.#sorted);
    if (column === undefined) {
      return this.#rows;
    }
    const sign = this.#descending ? -1 : 1;
    return this.#rows
      .map((row) => [column.sort(row), row])
      .sort(([one], [other]) => compare(one, other, sign))
      .map(([, row]) => row);
  }

  /** Keep the order of the rows while the pointer or the focus is in the table. */
  #inTheirPlaces(rows) {
    const idOf = this.#options.id;
    const ids = new Set(rows.map(idOf));
    const held = this.#pointed || this.#body.contains(document.activeElement);
    if (held && ids.size === this.#order.length && this.#order.every((id) => ids.has(id))) {
      const place = new Map(this.#order.map((id, index) => [id, index]));
      rows.sort((one, other) => place.get(idOf(one)) - place.get(idOf(other)));
    }
    this.#order = rows.map(idOf);
    return rows;
  }

  #place(groups) {
    const entries = new Map();
    const nodes = [];
    let group = null;
    for (const row of this.#shown) {
      const id = this.#options.id(row);
      const entry = this.#entries.get(id) ?? new Entry(this.#options, (on) => this.#choose(id, on));
      entry.update(row);
      entries.set(id, entry);
      if (groups !== null && this.#group(row) !== group) {
        group = this.#group(row);
        nodes.push(this.#groupHead(group, groups.get(group)));
      }
      nodes.push(entry.node);
    }
    this.#entries = entries;
    const present = [...this.#body.rows];
    if (nodes.length !== present.length || nodes.some((node, at) => node !== present[at])) {
      keepingFocus(this.#body, () => this.#body.replaceChildren(...nodes));
    }
  }

  #groupHead(group, rows) {
    let node = this.#groups.get(group);
    if (node === undefined) {
      const columns = this.#options.columns.length + (this.#options.selected ? 1 : 0);
      const head = element("th", { role: "rowheader", scope: "rowgroup", colspan: columns });
      node = element("tr", { role: "row", class: "group" }, head);
      this.#groups.set(group, node);
    }
    const words = this.#options.summary?.(rows) ?? "";
    const number = counted(rows.length, this.#options.noun);
    show(node.firstChild, [group, number, words], () => [
      foreign(group, "bdi", { class: "group-name" }),
      element("span", { class: "small" }, ` ${number}${words && ` · ${words}`}`),
    ]);
    return node;
  }

  #tellPage(number) {
    const last = Math.min(number, this.#first + this.#size);
    const { noun, sizes } = this.#options;
    const range = `${count(this.#first + 1)} to ${count(last)}`;
    setText(this.#words, `${range} of ${counted(number, noun)}`);
    this.#pages.hidden = number <= sizes[0];
    this.#back.disabled = this.#first === 0;
    this.#next.disabled = last === number;
    this.#empty.hidden = number > 0;
    this.#table.hidden = number === 0;
  }

  // -- the selection ------------------------------------------------------------------------------

  #choose(id, on) {
    if (on) {
      this.#chosen.add(id);
    } else {
      this.#chosen.delete(id);
    }
    this.#choiceChanged();
  }

  #chooseAll() {
    for (const row of this.#shown) {
      this.#chosen[this.#all.checked ? "add" : "delete"](this.#options.id(row));
    }
    this.#choiceChanged();
  }

  #choiceChanged() {
    this.#showChoice();
    this.#options.selected();
  }

  #showChoice() {
    if (this.#all !== null) {
      for (const [id, entry] of this.#entries) {
        entry.choose(this.#chosen.has(id));
      }
      const number = this.#order.filter((id) => this.#chosen.has(id)).length;
      this.#all.checked = number > 0 && number === this.#order.length;
      this.#all.indeterminate = number > 0 && number < this.#order.length;
    }
  }
}

/** One row and its cells. */
class Entry {
  #options;
  #row;
  #cells = [];
  #updates = [];
  #box = null;

  constructor(options, choose) {
    this.#options = options;
    this.node = element("tr", { role: "row" });
    if (options.selected) {
      this.#box = element("input", { type: "checkbox" });
      this.#box.addEventListener("change", () => choose(this.#box.checked));
      this.node.append(element("td", { role: "cell", class: "c-select" }, this.#box));
    }
    for (const column of options.columns) {
      const cell = this.#cell(column);
      if (column.live) {
        const { nodes, update } = column.live(() => this.#row);
        cell.append(...nodes);
        this.#updates.push(update);
      } else {
        this.#cells.push([cell, column]);
      }
      this.node.append(cell);
    }
    if (options.open) {
      this.node.classList.add("opens");
      this.node.addEventListener("click", (event) => this.#open(event));
    }
  }

  update(row) {
    this.#row = row;
    const tone = this.#options.tone(row);
    this.node.dataset.tone = tone ?? "";
    this.node.dataset.row = this.#options.id(row);
    for (const [cell, { mark, cell: make }] of this.#cells) {
      show(cell, mark ? mark(row) : row, () => make(row));
    }
    for (const update of this.#updates) {
      update(row);
    }
    this.#box?.setAttribute("aria-label", `Select ${this.#options.nameOf?.(row) ?? "this row"}`);
  }

  choose(on) {
    this.#box.checked = on;
    this.node.classList.toggle("chosen", on);
  }

  #cell({ name, label, number, head, unseen }) {
    return element(head ? "th" : "td", {
      role: head ? "rowheader" : "cell",
      scope: head ? "row" : null,
      "data-label": unseen ? "" : label,
      class: `c-${name}${number ? " number" : ""}`,
    });
  }

  /** A click anywhere in the row; not one that selects text, and not one on another control. */
  #open(event) {
    const control = event.target.closest("button, a, input, select");
    if (getSelection().isCollapsed && (control === null || control.dataset.opens !== undefined)) {
      this.#options.open(this.#row);
    }
  }
}

function compare(one, other, sign) {
  const lacks = (value) => value === null || value === undefined;
  if (lacks(one) || lacks(other)) {
    return lacks(one) - lacks(other);
  }
  const strings = typeof one === "string" && typeof other === "string";
  return sign * (strings ? COLLATOR.compare(one, other) : one - other);
}

/** The rows of each group; the groups are in the order of their first rows. */
function grouped(rows, of) {
  const groups = new Map();
  for (const row of rows) {
    const group = of(row);
    if (!groups.has(group)) {
      groups.set(group, []);
    }
    groups.get(group).push(row);
  }
  return groups;
}

function keepingFocus(node, act) {
  const focused = document.activeElement;
  act();
  if (focused !== document.body && node.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
}
