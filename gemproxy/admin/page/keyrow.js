// The columns of the table of keys.

import { conditionOf, CONDITIONS, explanationOf, sign } from "./conditions.js";
import { element, foreign, setText, show } from "./elements.js";
import { count, counted, milliseconds, percent, rate } from "./figures.js";
import { bar } from "./meters.js";
import { shape } from "./shapes.js";
import { sparkline } from "./sparkline.js";
import { ago } from "./times.js";

/** `change` has a method for each button of a row, which gets the key. */
export function keyColumns(change) {
  return [
    {
      name: "key",
      label: "Key",
      head: true,
      sort: (key) => key.name,
      live: (present) => name(present, change),
    },
    {
      name: "state",
      label: "State",
      title: "Whether it gets requests; those in trouble come first",
      sort: (key) => CONDITIONS[conditionOf(key)].rank,
      mark: (key) => [conditionOf(key), ...troubles(key)],
      cell: state,
    },
    {
      name: "health",
      label: "Health",
      title: "The share of the latest requests that it served",
      sort: (key) => key.health_score,
      mark: (key) => [key.health_score, key.success_count, key.failure_count],
      cell: health,
    },
    {
      name: "weight",
      label: "Weight",
      title: "A key with twice the weight gets twice the requests",
      number: true,
      descending: true,
      sort: (key) => key.effective_weight,
      live: (present) => weight(present, change),
    },
    {
      name: "requests",
      label: "Requests",
      title: "Since the key was first seen",
      number: true,
      descending: true,
      sort: (key) => key.requests_total,
      mark: (key) => key.requests_total,
      cell: (key) => [count(key.requests_total)],
    },
    {
      name: "latency",
      label: "Latency",
      title: "How long the latest answers took, until their end",
      descending: true,
      sort: (key) => key.avg_latency_ms,
      mark: (key) => [key.recent_latencies_ms, key.p95_latency_ms],
      cell: latency,
    },
    {
      name: "used",
      label: "Last used",
      descending: true,
      sort: (key) => key.last_used && Date.parse(key.last_used),
      mark: (key) => key.last_used,
      cell: (key) => [key.last_used === null ? "never" : ago(key.last_used)],
    },
    {
      name: "error",
      label: "Last error",
      title: "The latest failure that was charged to the key",
      descending: true,
      sort: (key) => key.last_error && Date.parse(key.last_error.at),
      mark: (key) => key.last_error,
      cell: (key) => lastError(key.last_error),
    },
    { name: "change", label: "Change", unseen: true, live: (present) => buttons(present, change) },
  ];
}

function name(present, change) {
  const button = element("button", { type: "button", class: "link name", dir: "auto" });
  button.addEventListener("click", () => change.details(present()));
  const below = element("div", { class: "small clip" });
  const update = ({ name: text, masked, project }) => {
    setText(button, text);
    button.title = `${text}: everything about this key`;
    show(below, [text, masked, project], () => [
      element("code", {}, masked),
      ...(project === text ? [] : [" · ", foreign(project)]),
    ]);
  };
  return { nodes: [button, below], update };
}

function weight(present, change) {
  const button = element("button", { type: "button" });
  button.addEventListener("click", () => change.weigh(present()));
  const acting = element("div", { class: "small" });
  const update = ({ name: text, weight: set, effective_weight: effective }) => {
    relabel(button, count(set), `Weight ${set}: change the weight of ${text}`);
    // The effective weight, if poor health has reduced it.
    setText(acting, Math.abs(effective - set) < 0.01 ? "" : `acts as ${rate(effective)}`);
  };
  return { nodes: [button, acting], update };
}

function buttons(present, change) {
  const onOff = element("button", { type: "button" });
  onOff.addEventListener("click", () =>
    present().enabled ? change.disable(present()) : change.enable(present()),
  );
  const reset = element("button", { type: "button" });
  reset.addEventListener("click", () => change.reset(present()));
  const update = ({ name: text, enabled }) => {
    const verb = enabled ? "Disable" : "Enable";
    relabel(onOff, verb, `${verb} ${text}`);
    relabel(reset, "Reset", `Reset ${text}`);
  };
  return { nodes: [element("div", { class: "buttons" }, onOff, reset)], update };
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

function state(key) {
  const why = element("div", { class: "small why" }, ...explanationOf(key));
  why.title = why.textContent;
  return [sign(conditionOf(key), shape), why];
}

function health(key) {
  const asked = key.success_count + key.failure_count;
  const level = key.health_score >= 0.9 ? "good" : key.health_score >= 0.5 ? "warn" : "bad";
  const told = asked ? `${count(key.failure_count)} of ${count(asked)} failed` : "not asked lately";
  return [
    element(
      "div",
      { class: "health" },
      bar(key.health_score, level),
      element("span", {}, percent(key.health_score)),
    ),
    element("div", { class: "small" }, told),
  ];
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
  const words = `${status}${error.outcome}`;
  return [
    element("div", { class: "clip", title: words }, words),
    element(
      "div",
      { class: "small message", title: error.message },
      ago(error.at),
      " · ",
      foreign(error.message, "bdi", { title: null }),
    ),
  ];
}
