// The tab of usage: stacked bars and a table, by client, model, project or endpoint.

import { toast } from "./announcements.js";
import { colourOf, COLOURS, Reading, StackedBars } from "./charts.js";
import { byId, element, foreign, setText, show } from "./elements.js";
import { count, dollars, percent, short } from "./figures.js";
import { explainer } from "./help.js";
import { daysOf, earlier, hoursOf } from "./spans.js";
import { DataTable } from "./table.js";
import { goTo } from "./tabs.js";
import { dateOf, dayOf, minuteOfDay } from "./times.js";

const DIMENSIONS = ["client", "model", "project", "endpoint"];
/** By what the usage of one is looked at next. */
const NEXT = { client: "model", model: "client", project: "model", endpoint: "client" };
const SPANS = {
  day: { days: 1, unit: "hour", starts: hoursOf, number: hoursIn, label: minuteOfDay, long: hourLong },
  week: { days: 7, unit: "day", starts: daysOf, number: () => 7, label: dateOf, long: dayOf },
  month: { days: 30, unit: "day", starts: daysOf, number: () => 30, label: dateOf, long: dayOf },
};
const MEASURES = {
  cost: { of: ({ cost_usd: cost }) => cost ?? 0, figure: dollars, word: "cost" },
  requests: { of: ({ requests }) => requests, figure: short, word: "requests" },
  tokens: { of: ({ tokens }) => tokens.input + tokens.output, figure: short, word: "tokens" },
  failures: { of: failures, figure: short, word: "failures" },
};
/** Rows of an answer; beyond them only those of the largest are asked for. */
const MOST_ROWS = 600;
const CHOICES = { measure: "cost", by: "client", span: "day", until: "" };
const WORDS = [
  ["Failed", "Requests that failed, whoever is to blame: the next three columns say it."],
  ["Theirs", "The client's own faults: bad requests, its own limits, no right to ask."],
  ["Ours", "This proxy's limits and defects, no key that works, a host that Google refuses."],
  ["Upstream", "Google failed, or the quota of every key is used up."],
  ["Tokens in, out", "As Gemini reports them. “In” includes the cached ones, “out” the thoughts."],
  ["Searches", "Google searches that grounded answers were made with."],
  ["Cost", "An estimate in US dollars by the list of prices. A dash: the price of some is not known."],
  ["No price", "Requests whose price is not known; they are in no sum of costs."],
];

/** `api` returns the client of the API. */
export class UsageTab {
  interval = 30_000;
  #api;
  #choices = CHOICES;
  #filters = {};
  #reading = new Reading();
  #bars = new StackedBars((at) => this.#tell(at));
  #shown = null;
  #table;

  constructor(api) {
    this.#api = api;
    const note = element("p", { class: "small" });
    byId("usage-figure").append(this.#reading.node, this.#bars.node, note);
    this.#table = new DataTable({
      name: "usage-table",
      place: byId("usage-place"),
      caption: "Usage, the largest first.",
      noun: "row",
      id: ({ name }) => name,
      order: "measure",
      columns: this.#columns(),
    });
    for (const name of Object.keys(CHOICES)) {
      byId(`usage-${name}`).addEventListener("change", () => this.#choose());
    }
    byId("usage-csv").addEventListener("click", () => this.#download());
    byId("usage-help").append(explainer(WORDS, "usage.md#what-is-counted"));
  }

  /** Show what these parameters ask for. */
  open(parameters) {
    this.#choices = { ...CHOICES };
    for (const name of Object.keys(CHOICES)) {
      const field = byId(`usage-${name}`);
      field.value = parameters.get(name) ?? CHOICES[name];
      this.#choices[name] = field.value || CHOICES[name];
      field.value = this.#choices[name];
    }
    const given = DIMENSIONS.filter((name) => parameters.has(name));
    this.#filters = Object.fromEntries(given.map((name) => [name, parameters.get(name)]));
    show(byId("usage-filter"), this.#filters, () => this.#chips());
    byId("usage-filter").hidden = given.length === 0;
  }

  /** Ask the API; resolves with a function that shows the answer. */
  async poll(api) {
    const asked = this.#asked();
    const { by, span } = this.#choices;
    const { unit, number } = SPANS[span];
    const sums = await api.poll(path({ ...asked, by }));
    const bars = number(sums);
    const ranked = this.#ranked(sums.usage, by);
    const few = ranked.length * bars <= MOST_ROWS;
    // A name with a comma cannot be asked for: it is among the rest.
    const largest = ranked.slice(0, COLOURS).filter((name) => !name.includes(","));
    const only = few || asked[by] || largest.length === 0 ? {} : { [by]: largest.join(",") };
    const [parts, wholes] = await Promise.all([
      api.poll(path({ ...asked, ...only, by: `${unit},${by}` })),
      api.poll(path({ ...asked, by: unit })),
    ]);
    return () => {
      this.#shown = { sums, parts, wholes, bars, ranked, by, unit };
      this.#render();
    };
  }

  // -- what is asked for --------------------------------------------------------------------------

  #asked() {
    const { span, until } = this.#choices;
    const before = SPANS[span].days - 1;
    const today = before === 0 ? "today" : `today-${before}d`;
    const range = until === "" ? { from: today, to: "today" } : { from: earlier(until, before), to: until };
    return { ...range, ...this.#filters };
  }

  #choose(changes = {}) {
    const chosen = Object.keys(CHOICES).map((name) => [name, byId(`usage-${name}`).value]);
    const all = { ...Object.fromEntries(chosen), ...this.#filters, ...changes };
    goTo(
      "usage",
      Object.fromEntries(
        Object.entries(all).filter(([name, value]) => value !== null && value !== CHOICES[name]),
      ),
    );
  }

  #chips() {
    const chips = Object.entries(this.#filters).map(([name, value]) => {
      const label = `Do not filter by the ${name} ${value}`;
      const remove = () => this.#choose({ [name]: null });
      const button = element("button", { type: "button", "aria-label": label, click: remove }, "×");
      return element("span", { class: "chip" }, `${name}: `, foreign(value), " ", button);
    });
    return ["Only ", ...chips];
  }

  #ranked(usage, by) {
    const { of } = MEASURES[this.#choices.measure];
    return [...usage].sort((one, other) => of(other) - of(one)).map((row) => row[by]);
  }

  async #download() {
    const { by, span } = this.#choices;
    const asked = { ...this.#asked(), by: `${SPANS[span].unit},${by}`, format: "csv" };
    try {
      const text = await this.#api().text(path(asked), "text/csv");
      const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      const name = `usage-by-${by}-${asked.from}-${asked.to}.csv`;
      element("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    } catch (error) {
      toast(error.message);
    }
  }

  // -- what is shown ------------------------------------------------------------------------------

  #render() {
    const { sums, by, ranked } = this.#shown;
    const places = new Map(ranked.map((name, at) => [name, at]));
    const rows = sums.usage.map((row) => ({ ...row, name: row[by], place: places.get(row[by]) }));
    this.#table.update(rows, "Nothing was used in this time.");
    this.#drawBars();
    this.#tell(null);
    const unpriced = rows.reduce((sum, row) => sum + row.unpriced, 0);
    const words = `${count(unpriced)} requests have no known price and are in no sum of costs.`;
    setText(byId("usage-figure").lastChild, unpriced === 0 ? "" : words);
  }

  #drawBars() {
    const { parts, wholes, bars, ranked, by, unit } = this.#shown;
    const { measure, span } = this.#choices;
    const { of, figure, word } = MEASURES[measure];
    const { starts, label } = SPANS[span];
    const times = starts(wholes, bars);
    const place = new Map(times.map((time, at) => [time, at]));
    const names = ranked.slice(0, COLOURS);
    const stacks = names.map(() => times.map(() => 0));
    const rest = times.map(() => 0);
    for (const row of wholes.usage) {
      rest[place.get(row[unit])] += of(row);
    }
    for (const row of parts.usage) {
      const at = place.get(row[unit]);
      const stack = stacks[names.indexOf(row[by])];
      if (stack !== undefined && at !== undefined) {
        stack[at] += of(row);
        rest[at] -= of(row);
      }
    }
    this.#shown.times = times;
    this.#shown.stacks = stacks;
    this.#shown.rest = rest.map((value) => Math.max(0, value));
    const all = stacks.length < COLOURS ? stacks : [...stacks, this.#shown.rest];
    const total = wholes.usage.reduce((sum, row) => sum + of(row), 0);
    const words = `${word} by ${by}: ${figure(total)} in all, in ${bars} bars; the table has the rest`;
    this.#bars.show(times.map(label), all, figure, words);
  }

  /** The bar under the pointer, or all of them. */
  #tell(at) {
    if (this.#shown?.stacks === undefined) {
      return;
    }
    const { stacks, rest, times, ranked } = this.#shown;
    const { figure, word } = MEASURES[this.#choices.measure];
    const sum = (values) => (at === null ? values.reduce((a, b) => a + b, 0) : (values[at] ?? 0));
    const sums = stacks.map(sum);
    const total = sums.reduce((a, b) => a + b, 0) + (stacks.length < COLOURS ? 0 : sum(rest));
    const largest = sums
      .map((value, index) => [value, ranked[index]])
      .filter(([value]) => value > 0)
      .slice(0, 4)
      .map(([value, name]) => `${name || "none"} ${figure(value)}`);
    const time = at === null ? "in all" : SPANS[this.#choices.span].long(times[at] ?? times[0]);
    const words = largest.length === 0 ? "" : ` · ${largest.join(", ")}`;
    this.#reading.show(`${figure(total)} ${measureWord(word)}`, `${time}${at === null ? "" : words}`);
  }

  #columns() {
    const number = (name, label, of, figure = count) => ({
      name,
      label,
      number: true,
      descending: true,
      sort: of,
      cell: (row) => [element("span", { title: precise(of(row), figure) }, figure(of(row)))],
    });
    return [
      {
        name: "key",
        label: "Name",
        head: true,
        sort: ({ name }) => name,
        mark: ({ name, place }) => [name, place, this.#choices.by, this.#filters],
        cell: (row) => this.#named(row),
      },
      {
        ...number("measure", "Share", (row) => MEASURES[this.#choices.measure].of(row)),
        title: "Of what the bars show",
        // Not of the row alone: it changes with the rows beside it.
        mark: (row) => this.#share(row),
        cell: (row) => [this.#share(row)],
      },
      number("requests", "Requests", ({ requests }) => requests),
      number("failed", "Failed", failures),
      number("theirs", "Theirs", (row) => row.failures.theirs),
      number("ours", "Ours", (row) => row.failures.ours),
      number("upstream", "Upstream", (row) => row.failures.upstream),
      number("input", "Tokens in", ({ tokens }) => tokens.input, short),
      number("cached", "Cached", ({ tokens }) => tokens.cached, short),
      number("output", "Tokens out", ({ tokens }) => tokens.output, short),
      number("reasoning", "Thoughts", ({ tokens }) => tokens.reasoning, short),
      number("searches", "Searches", (row) => row.grounding_calls),
      number("images", "Images", ({ images }) => images),
      number("cost", "Cost", (row) => row.cost_usd, dollars),
      number("unpriced", "No price", ({ unpriced }) => unpriced),
    ];
  }

  #named({ name, place }) {
    const { by } = this.#choices;
    const swatch = element("span", { class: `swatch ${colourOf(place)}`, "aria-hidden": "true" });
    if (name === "") {
      return [swatch, "none"];
    }
    if (name.includes(",") || this.#filters[by] === name) {
      return [swatch, foreign(name)];
    }
    const look = () => this.#choose({ [by]: name, by: NEXT[by] });
    const title = `${name}: its usage by ${NEXT[by]}`;
    const attributes = { type: "button", class: "link name", title, click: look };
    return [swatch, foreign(name, "button", attributes)];
  }

  #share(row) {
    const { of } = MEASURES[this.#choices.measure];
    const total = this.#shown?.sums.usage.reduce((sum, one) => sum + of(one), 0) ?? 0;
    return total === 0 ? "–" : percent(of(row) / total);
  }
}

function measureWord(word) {
  return word === "cost" ? "estimated" : word;
}

/** The whole number, where it is shown in short. */
function precise(value, figure) {
  return figure === short && value >= 10_000 ? count(value) : null;
}

function failures({ failures: { theirs, ours, upstream } }) {
  return theirs + ours + upstream;
}

/** The hours that the day of an answer has; one more where days begin within an hour. */
function hoursIn({ from, to }) {
  const hour = 3_600_000;
  return Math.ceil(Date.parse(to) / hour) - Math.floor(Date.parse(from) / hour);
}

function hourLong(time) {
  return `${dateOf(time)}, ${minuteOfDay(time)}`;
}

function path(parameters) {
  return `usage?${new URLSearchParams(parameters)}`;
}
