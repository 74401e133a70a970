// The row of a key. It is updated in place, so that focus and selection stay.

import { conditionOf, CONDITIONS, explanationOf, sign } from "./conditions.js";
import { element, foreign, setText, show } from "./elements.js";
import { count, counted, milliseconds, percent, rate } from "./figures.js";
import { shape } from "./shapes.js";
import { sparkline } from "./sparkline.js";
import { ago } from "./times.js";

const LABELS = ["Key", "State", "Health", "Weight", "Requests", "Latency", "Last error", "Change"];
const NUMBERS = new Set(["Weight", "Requests"]);

/** `change` has a method for each button of the row, which gets the key. */
export class KeyRow {
  #key;
  #change;
  #cells = {};
  #switch;
  #reset;
  #weigh;
  #acting = element("div", { class: "small" });

  constructor(change) {
    this.#change = change;
    const cells = LABELS.map((label) => {
      const name = label === "Key" ? "th" : "td";
      const cell = element(name, {
        role: label === "Key" ? "rowheader" : "cell",
        scope: label === "Key" ? "row" : null,
        "data-label": label,
        class: NUMBERS.has(label) ? "number" : null,
      });
      this.#cells[label] = cell;
      return cell;
    });
    this.node = element("tr", { role: "row" }, ...cells);
    this.#addButtons();
  }

  /** Show the state of the key. */
  update(key) {
    this.#key = key;
    const condition = conditionOf(key);
    this.node.dataset.tone = CONDITIONS[condition].tone;
    this.node.dataset.key = key.name;
    const cells = this.#cells;
    show(cells.Key, [key.name, key.masked, key.project], () => this.#name());
    show(cells.State, [condition, ...troubles(key)], () => state(key, condition));
    show(cells.Health, [key.health_score, key.success_count, key.failure_count], () => health(key));
    show(this.#acting, [key.weight, key.effective_weight], () => acting(key));
    show(cells.Requests, key.requests_total, count);
    show(cells.Latency, [key.recent_latencies_ms, key.p95_latency_ms], () => latency(key));
    show(cells["Last error"], key.last_error, lastError);
    this.#label();
  }

  #addButtons() {
    const change = this.#change;
    const button = (act) => element("button", { type: "button", click: () => act(this.#key) });
    this.#switch = button((key) => (key.enabled ? change.disable(key) : change.enable(key)));
    this.#reset = button((key) => change.reset(key));
    this.#weigh = button((key) => change.weigh(key));
    const buttons = element("div", { class: "buttons" }, this.#switch, this.#reset);
    this.#cells.Change.append(buttons);
    this.#cells.Weight.append(this.#weigh, this.#acting);
  }

  #label() {
    const { name, enabled, weight } = this.#key;
    const verb = enabled ? "Disable" : "Enable";
    relabel(this.#switch, verb, `${verb} ${name}`);
    relabel(this.#reset, "Reset", `Reset ${name}`);
    relabel(this.#weigh, count(weight), `Weight ${weight}: change the weight of ${name}`);
  }

  #name() {
    const { name, project, masked } = this.#key;
    const button = foreign(name, "button", {
      type: "button",
      class: "link name",
      title: `${name}: everything about this key`,
      click: () => this.#change.details(this.#key),
    });
    const ofProject = project === name ? [] : [" · ", foreign(project)];
    return [
      button,
      element("div", { class: "small clip" }, element("code", {}, masked), ...ofProject),
    ];
  }
}

/** The fields from which the text about a key's state is made. */
function troubles(key) {
  const { next_retry: retry, needs_attention: attention, consecutive_failures: failures } = key;
  return [retry, attention, failures, key.cooldowns, key.denied_models];
}

function relabel(button, text, label) {
  setText(button, text);
  button.setAttribute("aria-label", label);
}

function state(key, condition) {
  return [sign(condition, shape), element("div", { class: "small why" }, ...explanationOf(key))];
}

function health(key) {
  const asked = key.success_count + key.failure_count;
  const fill = element("span", { class: "fill" });
  fill.style.setProperty("inline-size", `${key.health_score * 100}%`);
  const level = key.health_score >= 0.9 ? "good" : key.health_score >= 0.5 ? "warn" : "bad";
  const told = asked ? `${count(key.failure_count)} of ${count(asked)} failed` : "not asked lately";
  return [
    element(
      "div",
      { class: "health" },
      element("span", { class: `meter ${level}`, "aria-hidden": "true" }, fill),
      element("span", {}, percent(key.health_score)),
    ),
    element("div", { class: "small" }, told),
  ];
}

/** The effective weight, if poor health has reduced it. */
function acting({ weight, effective_weight: effective }) {
  return Math.abs(effective - weight) < 0.01 ? [] : [`acts as ${rate(effective)}`];
}

function latency(key) {
  const recent = key.recent_latencies_ms ?? [];
  if (recent.length === 0) {
    return element("span", { class: "small" }, "no answer yet");
  }
  const average = milliseconds(key.avg_latency_ms);
  const slowest = milliseconds(key.p95_latency_ms);
  return [
    sparkline(recent, `The latest ${counted(recent.length, "answer")}: ${average} on average`),
    element(
      "div",
      { class: "small clip", title: `95 % of the answers came within ${slowest}` },
      `${average}, p95 ${slowest}`,
    ),
  ];
}

function lastError(error) {
  if (error === null) {
    return element("span", { class: "small" }, "none");
  }
  const status = error.status === null ? "" : `${error.status} `;
  return [
    element("div", { class: "clip" }, `${status}${error.outcome}`),
    element("div", { class: "small message" }, ago(error.at), " · ", foreign(error.message)),
  ];
}
