// Charts, drawn by uPlot: curves over time, and stacked bars. Their colours are those of the style
// sheet. What a chart shows is in its label, and in a table beside it.

import { element, setText } from "./elements.js";
import uPlot from "./vendor/uPlot.esm.js";

/** The bars' colours; one more is for the rest. */
export const COLOURS = 8;
const HEIGHT = { curve: 120, bars: 260 };
const AXIS = { x: 24, y: 46 };
/** Pixels that a label of the axis of time needs. */
const SPACE = 70;

const charts = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => charts.forEach((chart) => chart.redraw(false)));

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The name of the colour of series `index` of `number`; the last of many is the rest. */
export function colourOf(index) {
  return index < COLOURS ? `series-${index}` : "series-rest";
}

class Chart {
  #plot = null;
  #options;
  #data = null;

  constructor(height, options) {
    this.#options = { height, ...options };
    this.node = element("div", { class: "plot", role: "img" });
    new ResizeObserver(() => this.#fit()).observe(this.node);
  }

  /** Draw `data`, as uPlot has it; `label` says the same in words. */
  draw(data, label, options = {}) {
    this.#data = data;
    this.node.setAttribute("aria-label", label);
    if (this.#plot !== null && Object.keys(options).length === 0) {
      this.#plot.setData(data);
      return;
    }
    this.#options = { ...this.#options, ...options };
    this.#destroy();
    this.#fit();
  }

  #fit() {
    const width = Math.floor(this.node.clientWidth);
    if (width === 0 || this.#data === null) {
      return;
    }
    if (this.#plot === null) {
      this.#plot = new uPlot({ ...this.#options, width }, this.#data, this.node);
      charts.add(this.#plot);
    } else if (this.#plot.width !== width) {
      this.#plot.setSize({ width, height: this.#options.height });
    }
  }

  #destroy() {
    if (this.#plot !== null) {
      charts.delete(this.#plot);
      this.#plot.destroy();
      this.#plot = null;
    }
  }
}

function axes(figure, times = {}) {
  const common = {
    stroke: () => colour("muted"),
    font: "11px system-ui, sans-serif",
    ticks: { show: false },
    gap: 4,
  };
  const grid = { stroke: () => colour("line"), width: 1 };
  return [
    { ...common, size: AXIS.x, space: SPACE, grid: { show: false }, ...times },
    { ...common, size: AXIS.y, space: 32, grid, values: (_, ticks) => ticks.map(figure) },
  ];
}

/** Curves over time. `lines` is their number, `moved` gets the index under the pointer or `null`. */
export class Curve extends Chart {
  constructor({ lines, figure, least, most, tone, times, moved }) {
    const names = lines === 1 ? [tone] : ["accent", "second"];
    const series = names.map((name, at) => ({
      stroke: () => colour(name),
      width: 1.75,
      dash: at === 1 ? [4, 3] : undefined,
      fill: at === 0 ? () => `${colour(name)}1f` : undefined,
      points: { show: true, size: 4, filter: (plot, index) => lonely(plot.data[index]) },
    }));
    super(HEIGHT.curve, {
      series: [{}, ...series],
      scales: { y: { range: (_, __, highest) => [0, top(highest, least, most)] } },
      axes: axes(figure, { values: (_, ticks) => ticks.map(times) }),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "curves" } },
      padding: [8, 18, 0, 0],
      hooks: { setCursor: [(plot) => moved(plot.cursor.idx ?? null)] },
    });
  }
}

/** Stacked bars. `moved` gets the index of the bar under the pointer or `null`. */
export class StackedBars extends Chart {
  #moved;

  constructor(moved) {
    super(HEIGHT.bars, {});
    this.#moved = moved;
  }

  /**
   * `labels` name the bars. `stacks` are the series, each with the value of every bar, the lowest
   * first; the last of more than `COLOURS` is the rest.
   */
  show(labels, stacks, figure, words) {
    const under = labels.map(() => 0);
    // No bar for nothing: its edge would be drawn.
    const sums = stacks.map((values) =>
      values.map((value, at) => (value > 0 ? (under[at] += value) : null)),
    );
    const bars = uPlot.paths.bars({ size: [0.8, 60], align: 0 });
    const series = sums.map((_, at) => ({
      stroke: () => colour("surface"),
      width: 1,
      fill: () => colour(colourOf(at)),
      paths: bars,
      points: { show: false },
    }));
    // The highest first: each lower one is drawn over it.
    this.draw([labels.map((_, at) => at), ...sums.reverse()], words, {
      series: [{}, ...series.reverse()],
      scales: {
        x: { time: false, range: () => [-0.6, labels.length - 0.4] },
        y: { range: (_, __, highest) => [0, top(highest, 0, Infinity)] },
      },
      axes: axes(figure, {
        incrs: [1, 2, 3, 4, 6, 7, 12, 24],
        values: (_, ticks) => ticks.map((tick) => labels[tick] ?? ""),
      }),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      padding: [8, 18, 0, 0],
      hooks: { setCursor: [(plot) => this.#moved(plot.cursor.idx ?? null)] },
    });
  }
}

/** The smallest 1, 2, 2.5 or 5 times a power of ten that is not below the highest value. */
function top(highest, least, most) {
  const number = Math.max(highest ?? 0, least) || 1;
  const power = 10 ** Math.floor(Math.log10(number));
  const round = [1, 2, 2.5, 5, 10].map((step) => step * power);
  return Math.min(most, round.find((step) => step >= number * 0.999));
}

/** Values between two gaps, which no line shows, and the latest one. */
function lonely(values) {
  const last = values.length - 1;
  const known = (at) => values[at] !== null && values[at] !== undefined;
  return [...values.keys()].filter(
    (at) => known(at) && (at === last || !(known(at - 1) || known(at + 1))),
  );
}

/** The value under the pointer, or the latest one. */
export class Reading {
  #now = element("span", { class: "now" });
  #when = element("span", { class: "small" });

  constructor() {
    this.node = element("p", { class: "reading" }, this.#now, this.#when);
  }

  show(value, when) {
    setText(this.#now, value);
    setText(this.#when, when);
  }
}
