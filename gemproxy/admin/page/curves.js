// Charts of the last hour: a card for each curve, and a table with all values.

import { byId, drawing, element, setText, show } from "./elements.js";
import { count, milliseconds, percent, rate, short } from "./figures.js";
import { fullTime, minuteOfDay } from "./times.js";

const WIDTH = 300;
const HEIGHT = 80;
const MINUTE = 60;

/** The charts. Each of `lines` returns a minute's value, or `null` if there is none. */
const CURVES = [
  {
    title: "Requests per second",
    lines: [{ name: "requests", of: (minute) => minute.requests / MINUTE }],
    least: 0.1,
    figure: rate,
    unit: "/s",
  },
  {
    title: "Failed requests",
    lines: [
      {
        name: "failed",
        of: (minute) => (minute.requests ? minute.failures / minute.requests : null),
      },
    ],
    least: 0.05,
    most: 1,
    figure: percent,
    alarming: true,
  },
  {
    title: "Time to first chunk",
    lines: [{ name: "first chunk", of: (minute) => minute.avg_first_chunk_ms }],
    least: 100,
    figure: milliseconds,
  },
  {
    title: "Tokens per minute",
    lines: [
      { name: "in", of: (minute) => minute.prompt_tokens },
      { name: "out", of: (minute) => minute.completion_tokens },
    ],
    least: 100,
    figure: short,
  },
];

/** The four cards, updated with each new series. */
export class Curves {
  #cards = CURVES.map((curve) => new Card(curve));
  #minutes = [];

  constructor() {
    byId("curves").append(...this.#cards.map((card) => card.node));
    byId("figures").addEventListener("toggle", () => this.#showFigures());
  }

  /** Show minutes, oldest first; the last one is incomplete. */
  update(minutes) {
    this.#minutes = minutes;
    const whole = completed(minutes);
    for (const card of this.#cards) {
      card.update(whole);
    }
    this.#showFigures();
  }

  #showFigures() {
    const figures = byId("figures");
    if (figures.open) {
      show(figures.querySelector(".scroll"), this.#minutes, table);
    }
  }
}

/** One curve, with the value under the pointer or the latest one. */
class Card {
  #curve;
  #minutes = [];
  #values = [];
  #pointed = null;
  #now = element("span", { class: "now" });
  #when = element("span", { class: "small" });
  #top = element("span", { class: "top", "aria-hidden": "true" });
  #paths;
  #area = drawing("path", { class: "area" });
  #dots;
  #guide = drawing("path", { class: "guide" });
  #plot;

  constructor(curve) {
    this.#curve = curve;
    this.#paths = curve.lines.map((_, index) => drawing("path", { class: `line line-${index}` }));
    this.#dots = curve.lines.map((_, at) => drawing("path", { class: `dots dots-${at}` }));
    this.#plot = drawing(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: "none",
        role: "img",
        class: "plot",
      },
      drawing("path", { class: "grid", d: `M0 ${HEIGHT / 2}H${WIDTH}` }),
      this.#area,
      ...this.#paths,
      ...this.#dots,
      this.#guide,
    );
    this.#plot.addEventListener("pointermove", (event) => this.#pointTo(event));
    this.#plot.addEventListener("pointerleave", () => this.#pointTo(null));
    this.node = this.#build();
  }

  update(minutes) {
    this.#minutes = minutes;
    this.#values = this.#curve.lines.map((line) => minutes.map(line.of));
    this.#draw();
    this.#tell();
  }

  #build() {
    const { title, lines } = this.#curve;
    const names = lines.map(({ name }, at) => element("span", { class: `legend-${at}` }, name));
    const legend = lines.length === 1 ? null : element("span", { class: "legend" }, ...names);
    const ends = ["1 h ago", "now"].map((end) => element("span", {}, end));
    return element(
      "figure",
      { class: "card curve" },
      element("figcaption", {}, element("span", {}, title), legend),
      element("p", { class: "reading" }, this.#now, this.#when),
      element("div", { class: "frame" }, this.#top, this.#plot),
      element("p", { class: "axis", "aria-hidden": "true" }, ...ends),
    );
  }

  #draw() {
    const { least, most = Infinity, alarming = false } = this.#curve;
    const highest = Math.max(...this.#values.flat().filter((value) => value !== null), 0);
    this.node.classList.toggle("bad", alarming && highest > 0);
    const top = Math.min(most, roundUp(Math.max(least, highest)));
    this.#values.forEach((values, at) => {
      this.#paths[at].setAttribute("d", line(values, top));
      this.#dots[at].setAttribute("d", dots(values, top));
    });
    this.#area.setAttribute("d", area(this.#values[0], top));
    setText(this.#top, this.#figure(top));
    const words = this.#curve.lines.map(({ name }, at) => this.#summary(name, this.#values[at]));
    const label = `${this.#curve.title}, the last hour: ${words.join("; ")}`;
    this.#plot.setAttribute("aria-label", label);
  }

  #summary(name, values) {
    const known = values.filter((value) => value !== null);
    if (known.length === 0) {
      return `no ${name}`;
    }
    const now = this.#figure(values[values.length - 1]);
    return `${name} now ${now}, highest ${this.#figure(Math.max(...known))}`;
  }

  #tell() {
    const at = this.#pointed ?? this.#minutes.length - 1;
    const minute = this.#minutes[at];
    setText(this.#now, this.#values.map((values) => this.#figure(values[at])).join(" / "));
    setText(this.#when, minute === undefined ? "" : this.#time(minute));
    const x = xOf(at, this.#minutes.length);
    this.#guide.setAttribute("d", this.#pointed === null ? "" : `M${x} 0V${HEIGHT}`);
  }

  #time(minute) {
    const isOver = minute !== this.#minutes[this.#minutes.length - 1];
    return isOver ? `at ${minuteOfDay(minute.start)}` : "the last 60 s";
  }

  #pointTo(event) {
    const { left, width } = this.#plot.getBoundingClientRect();
    const last = this.#minutes.length - 1;
    const at = event && Math.round(((event.clientX - left) / width) * last);
    this.#pointed = event === null || last < 0 ? null : Math.max(0, Math.min(last, at));
    this.#tell();
  }

  #figure(value) {
    const { figure, unit = "" } = this.#curve;
    return value === null || value === undefined ? "–" : `${figure(value)}${unit && ` ${unit}`}`;
  }
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

/** The smallest 1, 2, 2.5 or 5 times a power of ten that is not below `number`. */
function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= number * 0.999);
}

function xOf(index, length) {
  return Math.round((index / Math.max(1, length - 1)) * WIDTH * 10) / 10;
}

function yOf(value, top) {
  return Math.round((HEIGHT - (Math.min(value, top) / top) * (HEIGHT - 3) - 1) * 10) / 10;
}

/** The path of a line through the values, with gaps. */
function line(values, top) {
  return runs(values)
    .map((run) => `M${run.map(([at, value]) => point(at, value, values, top)).join("L")}`)
    .join("");
}

/** Dots for the latest value and for values between two gaps, which no line shows. */
function dots(values, top) {
  return runs(values)
    .filter((run) => run.length === 1 || run[run.length - 1][0] === values.length - 1)
    .map((run) => `M${point(...run[run.length - 1], values, top)}h.01`)
    .join("");
}

function point(at, value, values, top) {
  return `${xOf(at, values.length)} ${yOf(value, top)}`;
}

function area(values, top) {
  return runs(values)
    .map((run) => {
      const first = xOf(run[0][0], values.length);
      const last = xOf(run[run.length - 1][0], values.length);
      const over = run.map(([at, value]) => `L${point(at, value, values, top)}`).join("");
      return `M${first} ${HEIGHT}${over}L${last} ${HEIGHT}z`;
    })
    .join("");
}

/** The runs of values without a gap, each value with its index. */
function runs(values) {
  const found = [];
  let run = null;
  values.forEach((value, at) => {
    if (value === null) {
      run = null;
    } else if (run === null) {
      found.push((run = [[at, value]]));
    } else {
      run.push([at, value]);
    }
  });
  return found;
}

const COLUMNS = [
  ["Requests", (minute) => count(minute.requests)],
  ["Failed", (minute) => count(minute.failures)],
  ["Retries", (minute) => count(minute.retries)],
  ["First chunk", (minute) => milliseconds(minute.avg_first_chunk_ms)],
  ["Took", (minute) => milliseconds(minute.avg_duration_ms)],
  ["Tokens in", (minute) => count(minute.prompt_tokens)],
  ["Tokens out", (minute) => count(minute.completion_tokens)],
];

function table(minutes) {
  const rows = [...minutes].reverse().map((minute) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", title: fullTime(minute.start) }, minuteOfDay(minute.start)),
      ...COLUMNS.map(([, cell]) => element("td", { class: "number" }, cell(minute))),
    ),
  );
  const heads = ["Minute", ...COLUMNS.map(([name]) => name)].map((name, index) =>
    element("th", { scope: "col", class: index ? "number" : null }, name),
  );
  return element(
    "table",
    {},
    element("caption", { class: "hidden" }, "The last hour by minutes, newest first."),
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows),
  );
}
