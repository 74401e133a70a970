// Charts of the last hour, day, week or month: a card for each curve, and a table with all values.

import { Curve, Reading } from "./charts.js";
import { byId, element, setText, show } from "./elements.js";
import { count, counted, dollars, milliseconds, percent, rate, short } from "./figures.js";
import { daysOf, hoursOf } from "./spans.js";
import { dateOf, dayAndHour, dayOf, fullTime, minuteOfDay } from "./times.js";

const MINUTE = 60;
/** The usage of long ranges changes slowly, and is large. */
const USAGE_PAUSE_MS = 30_000;

/**
 * The ranges. The last hour is that of `metrics/series`; the others are the usage by hour or by day,
 * which is kept for longer, and does not have the time to the first chunk.
 */
const RANGES = {
  "1h": { words: "the last hour", unit: "minute", time: minuteOfDay },
  "24h": { words: "the last 24 hours", unit: "hour", from: "23h", number: 24, time: dayAndHour },
  "7d": { words: "the last 7 days", unit: "hour", from: "167h", number: 168, time: dayAndHour },
  "30d": { words: "the last 30 days", unit: "day", from: "today-29d", number: 30, time: dayOf },
};
const UNITS = {
  minute: { seconds: MINUTE },
  hour: { seconds: 3600, starts: hoursOf, at: (start) => start },
  day: { seconds: 86_400, starts: daysOf, at: (date) => `${date}T00:00:00` },
};

/** The charts. Each of `lines` returns the value of a span of time, or `null` if there is none. */
const CURVES = [
  {
    title: "Requests per second",
    lines: [{ name: "requests", of: (span) => span.requests / span.length }],
    least: 0.1,
    figure: rate,
    unit: "/s",
  },
  {
    title: "Failed requests",
    lines: [{ name: "failed", of: (span) => (span.requests ? span.failures / span.requests : null) }],
    least: 0.05,
    most: 1,
    figure: percent,
    alarming: true,
  },
  {
    title: "Time to first chunk",
    lines: [{ name: "first chunk", of: (span) => span.avg_first_chunk_ms }],
    least: 100,
    figure: milliseconds,
    only: (range) => range === "1h",
  },
  {
    title: "Cost (estimate)",
    lines: [{ name: "cost", of: (span) => span.cost }],
    least: 0.01,
    figure: dollars,
    only: (range) => range !== "1h",
  },
  {
    title: "Tokens",
    lines: [
      { name: "in", of: (span) => span.prompt_tokens },
      { name: "out", of: (span) => span.completion_tokens },
    ],
    least: 100,
    figure: short,
    each: true,
  },
];

/** The cards and the table, updated with each answer. */
export class Curves {
  #cards = CURVES.map((curve) => new Card(curve));
  #range = byId("range");
  #minutes = [];
  #spans = [];
  #asked = null;

  /** `asked` is called when another range is chosen. */
  constructor(asked) {
    byId("curves").append(...this.#cards.map((card) => card.node));
    byId("figures").addEventListener("toggle", () => this.#showFigures());
    this.#range.addEventListener("change", () => {
      this.#minutes = [];
      this.#asked = null;
      asked();
    });
  }

  /** Ask the API for the range; resolves with a function that shows the answer. */
  async poll(api) {
    const range = this.#range.value;
    if (range === "1h") {
      const latest = this.#minutes.at(-1);
      const since = latest === undefined ? "" : `?since=${latest.start}`;
      const { minutes } = await api.get(`metrics/series${since}`);
      return () => this.#addMinutes(minutes, range);
    }
    if (this.#asked !== null && performance.now() - this.#asked < USAGE_PAUSE_MS) {
      return () => {};
    }
    const { from, unit } = RANGES[range];
    const answer = await api.poll(`usage?from=${from}&by=${unit}`);
    return () => {
      this.#asked = performance.now();
      this.#show(spansOf(answer, range), range);
    };
  }

  /** Only the minutes since the latest one are asked for: those before do not change any more. */
  #addMinutes(minutes, range) {
    const first = minutes[0]?.start ?? "";
    const kept = this.#minutes.filter(({ start }) => start < first);
    this.#minutes = [...kept, ...minutes].slice(-61);
    const spans = completed(this.#minutes).map((minute) => ({ ...minute, length: MINUTE }));
    this.#show(spans, range);
  }

  #show(spans, range) {
    if (range !== this.#range.value) {
      return;
    }
    this.#spans = spans;
    for (const card of this.#cards) {
      card.update(spans, range);
    }
    this.#showFigures();
  }

  #showFigures() {
    const figures = byId("figures");
    if (figures.open) {
      const range = this.#range.value;
      const spans = range === "1h" ? this.#minutes : this.#spans;
      show(figures.querySelector(".scroll"), [range, spans], () => table(spans, range));
    }
  }
}

/** One curve, with the value under the pointer or the latest one. */
class Card {
  #curve;
  #spans = [];
  #range = "1h";
  #values = [];
  #pointed = null;
  #reading = new Reading();
  #title = element("span", {});
  #chart;

  constructor(curve) {
    this.#curve = curve;
    const { lines, alarming, least, most = Infinity } = curve;
    this.#chart = new Curve({
      lines: lines.length,
      figure: curve.figure,
      least,
      most,
      tone: alarming ? "bad" : "accent",
      times: (seconds) => this.#tick(seconds),
      moved: (at) => this.#pointTo(at),
    });
    const names = lines.map(({ name }, at) => element("span", { class: `legend-${at}` }, name));
    const legend = lines.length === 1 ? null : element("span", { class: "legend" }, ...names);
    this.node = element(
      "figure",
      { class: "card curve" },
      element("figcaption", {}, this.#title, legend),
      this.#reading.node,
      this.#chart.node,
    );
  }

  update(spans, range) {
    const { lines, only = () => true } = this.#curve;
    this.node.hidden = !only(range);
    if (this.node.hidden) {
      return;
    }
    this.#spans = spans;
    this.#range = range;
    this.#values = lines.map((line) => spans.map(line.of));
    setText(this.#title, this.#titled());
    const { at = (start) => start } = UNITS[RANGES[range].unit];
    const times = spans.map(({ start }) => Date.parse(at(start)) / 1000);
    this.#chart.draw([times, ...this.#values], this.#summary());
    this.#tell();
  }

  #titled() {
    const { title, each } = this.#curve;
    return each ? `${title} per ${RANGES[this.#range].unit}` : title;
  }

  #summary() {
    const words = this.#curve.lines.map(({ name }, at) => {
      const known = this.#values[at].filter((value) => value !== null);
      return known.length === 0
        ? `no ${name}`
        : `${name} now ${this.#figure(this.#values[at].at(-1))}, highest ${this.#figure(Math.max(...known))}`;
    });
    return `${this.#titled()}, ${RANGES[this.#range].words}: ${words.join("; ")}`;
  }

  #tick(seconds) {
    const time = seconds * 1000;
    return ["1h", "24h"].includes(this.#range) ? minuteOfDay(time) : dateOf(time);
  }

  #pointTo(at) {
    if (at !== this.#pointed) {
      this.#pointed = at;
      this.#tell();
    }
  }

  #tell() {
    const at = Math.min(this.#pointed ?? Infinity, this.#spans.length - 1);
    const span = this.#spans[at];
    const words = this.#values.map((values) => this.#figure(values[at])).join(" / ");
    this.#reading.show(words, span === undefined ? "" : this.#time(span, at));
  }

  #time({ start }, at) {
    const isOver = at < this.#spans.length - 1;
    if (this.#range === "1h") {
      return isOver ? `at ${minuteOfDay(start)}` : "the last 60 s";
    }
    const { unit, time } = RANGES[this.#range];
    return isOver ? time(start) : `this ${unit}`;
  }

  #figure(value) {
    const { figure, unit = "" } = this.#curve;
    return value === null || value === undefined ? "–" : `${figure(value)}${unit && ` ${unit}`}`;
  }
}

/** The hours or days of an answer about usage, also those without requests, oldest first. */
function spansOf(answer, range) {
  const { unit, number } = RANGES[range];
  const { seconds, starts, at } = UNITS[unit];
  const known = new Map(answer.usage.map((row) => [row[unit], row]));
  const end = Date.parse(answer.to);
  return starts(answer, number).map((start, index) => {
    // The last hour is not over; what a day's rate is then does not matter as much.
    const passed = unit === "hour" && index === number - 1 ? (end - Date.parse(at(start))) / 1000 : seconds;
    return span(start, Math.max(MINUTE, passed), known.get(start));
  });
}

function span(start, length, row) {
  const { theirs = 0, ours = 0, upstream = 0 } = row?.failures ?? {};
  return {
    start,
    length,
    requests: row?.requests ?? 0,
    // As in the last hour: faults of clients are not failures of the service.
    failures: ours + upstream,
    theirs,
    prompt_tokens: row?.tokens.input ?? 0,
    completion_tokens: row?.tokens.output ?? 0,
    // Unknown, and not nothing, if a price is missing.
    cost: row === undefined ? 0 : row.cost_usd,
  };
}

/**
 * The minutes, with the last one completed: the missing part is taken from the minute before it, so
 * that no curve drops to zero at the start of each minute.
 */
function completed(minutes) {
  if (minutes.length < 2) {
    return minutes;
  }
  const [before, last] = minutes.slice(-2);
  const share = Math.max(0, 1 - last.seconds / MINUTE);
  const whole = { ...last, avg_first_chunk_ms: meanFirstChunk(before, last, share) };
  for (const name of ["requests", "failures", "prompt_tokens", "completion_tokens"]) {
    whole[name] = last[name] + before[name] * share;
  }
  return [...minutes.slice(0, -1), whole];
}

function meanFirstChunk(before, last, share) {
  const chunks = last.first_chunks + before.first_chunks * share;
  const waited =
    (last.avg_first_chunk_ms ?? 0) * last.first_chunks +
    (before.avg_first_chunk_ms ?? 0) * before.first_chunks * share;
  return chunks === 0 ? null : waited / chunks;
}

const HOUR_COLUMNS = [
  ["Requests", (minute) => count(minute.requests)],
  ["Failed", (minute) => count(minute.failures)],
  ["Retries", (minute) => count(minute.retries)],
  ["First chunk", (minute) => milliseconds(minute.avg_first_chunk_ms)],
  ["Took", (minute) => milliseconds(minute.avg_duration_ms)],
  ["Tokens in", (minute) => count(minute.prompt_tokens)],
  ["Tokens out", (minute) => count(minute.completion_tokens)],
];
const USAGE_COLUMNS = [
  ["Requests", (hour) => count(hour.requests)],
  ["Failed", (hour) => count(hour.failures)],
  ["Clients' faults", (hour) => count(hour.theirs)],
  ["Tokens in", (hour) => count(hour.prompt_tokens)],
  ["Tokens out", (hour) => count(hour.completion_tokens)],
  ["Cost", (hour) => dollars(hour.cost)],
];

function table(spans, range) {
  const { words, unit, time } = RANGES[range];
  const columns = range === "1h" ? HOUR_COLUMNS : USAGE_COLUMNS;
  const rows = [...spans].reverse().map((one) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", title: fullTime(one.start) }, time(one.start)),
      ...columns.map(([, cell]) => element("td", { class: "number" }, cell(one))),
    ),
  );
  const heads = [unit, ...columns.map(([name]) => name)].map((name, index) =>
    element("th", { scope: "col", class: index ? "number" : null }, name),
  );
  const caption = `${words} by ${unit}s, newest first, ${counted(spans.length, "row")}`;
  return element(
    "table",
    {},
    element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows),
  );
}
