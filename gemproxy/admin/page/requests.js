// The latest requests, and the explanation of one.

import { named } from "./api.js";
import { read } from "./dialogs.js";
import { byId, element, foreign, setText, show } from "./elements.js";
import { count, counted, milliseconds } from "./figures.js";
import { shape } from "./shapes.js";
import { fullTime, moment } from "./times.js";

const FEW = 10;
const MANY = 100;
/** Enough to find failures in, and small enough to fetch every two seconds. */
export const ASKED = 100;

const VERDICTS = {
  success: "served the request",
  request: "got Google's answer that the request is invalid",
  blocked: "got Google's answer that the contents are blocked",
  quota_minute: "had used up its quota per minute",
  quota_day: "had used up its quota per day",
  key: "was refused by Google",
  model_denied: "may not use this model",
  forbidden: "was forbidden this model",
  service: "met an error of Google's own",
  network: "got no answer from Google",
  host: "could not be used: this machine is out of descriptors, ports or threads",
  broken_off: "began to serve the request, and Google broke off",
  region: "got Google's answer that this host's region is not served",
  unusable: "got an answer with nothing in it",
  client_gone: "was still at work when the client left",
};
const SERVED = ["good", "disc"];
const RETRIED = ["warn", "diamond"];
const FAILED = ["bad", "triangle"];
const REASONS = {
  disabled: "disabled",
  circuit_open: "taken out",
  half_open_busy: "on trial with another request",
  cooling_down: "out of quota",
  over_limit: "over its own limits",
  quota_reached: "at a known quota of its project",
  model_not_allowed: "not for this model",
  low_health: "in poor health",
  already_tried: "tried already",
};

/** The table. `explain` is called with the id of a request. */
export class RequestTable {
  #explain;
  #records = [];
  #body = byId("request-table").tBodies[0];

  constructor(explain) {
    this.#explain = explain;
    byId("only-failed").addEventListener("change", () => this.#render());
    byId("more-requests").addEventListener("click", () => this.#showMore());
  }

  /** Show requests, newest first. */
  update(records) {
    this.#records = records;
    this.#render();
  }

  #showMore() {
    const button = byId("more-requests");
    const more = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(more));
    setText(button, more ? "Show fewer" : "Show more");
    this.#render();
  }

  #render() {
    const number = byId("more-requests").getAttribute("aria-pressed") === "true" ? MANY : FEW;
    const wanted = byId("only-failed").checked ? this.#records.filter(isNotable) : this.#records;
    const shown = wanted.slice(0, number);
    this.#place(shown);
    byId("more-requests").hidden = wanted.length <= FEW;
    byId("no-requests").hidden = shown.length > 0;
    byId("request-table").hidden = shown.length === 0;
    setText(
      byId("no-requests"),
      this.#records.length === 0 ? "No request since the start." : "None of the latest requests.",
    );
  }

  /** Rows never change: new ones are added at the top, old ones removed at the end. */
  #place(records) {
    const present = new Map([...this.#body.rows].map((row) => [row.dataset.request, row]));
    const rows = records.map(
      (record) => present.get(identity(record)) ?? row(record, () => this.#explain(record.id)),
    );
    const kept = new Set(rows);
    for (const old of present.values()) {
      if (!kept.has(old)) {
        old.remove();
      }
    }
    rows.forEach((node, at) => {
      if (this.#body.rows[at] !== node) {
        this.#body.insertBefore(node, this.#body.rows[at] ?? null);
      }
    });
  }
}

/** Show one request with its attempts. Throws the API's errors. */
export async function explain(api, id) {
  const { request, attempts } = await api.get(named("requests", id));
  const steps = attempts.map((attempt) => step(attempt, request));
  return read(
    "What became of a request",
    element("p", { class: "whole" }, ...beginning(request)),
    steps.length > 0 ? element("ol", { class: "steps" }, ...steps) : "No key was asked.",
    element("p", { class: "whole" }, ...end(request)),
  );
}

function identity(record) {
  return `${record.time} ${record.id}`;
}

function isNotable(record) {
  return !isServed(record) || record.retries > 0;
}

function isServed({ status, outcome }) {
  return status < 400 && ["success", "blocked"].includes(outcome);
}

function row(record, explained) {
  const { prompt_tokens: input, completion_tokens: output } = record;
  const cells = [
    ["Time", [moment(record.time)]],
    ["Answer", [answer(record)]],
    ["Model", [record.model === null ? "–" : foreign(record.model, "bdi", { class: "clip" })]],
    ["Key", [record.key === null ? "–" : foreign(record.key, "bdi", { class: "clip" })]],
    ["Attempts", [String(record.attempts)], "number"],
    ["Took", [milliseconds(record.duration_ms)], "number"],
    ["First byte", [milliseconds(record.first_byte_ms)], "number"],
    ["Tokens", [input === null ? "–" : `${count(input)} → ${count(output ?? 0)}`], "number"],
    ["Request", [explainer(record.id)]],
  ];
  return element(
    "tr",
    { role: "row", "data-request": identity(record), click: explained },
    ...cells.map(([label, nodes, kind]) =>
      element("td", { role: "cell", "data-label": label, class: kind }, ...nodes),
    ),
  );
}

/** The row handles the click. */
function explainer(id) {
  const label = `Explain ${id}`;
  const attributes = { type: "button", class: "link clip id", title: label, "aria-label": label };
  return foreign(id, "button", attributes);
}

function answer({ status, outcome, retries }) {
  const good = isServed({ status, outcome });
  const [tone, outline] = good ? (retries > 0 ? RETRIED : SERVED) : FAILED;
  const words = element("span", { class: "clip" }, `${status} ${outcome}`);
  return element("span", { class: `sign ${tone}`, title: outcome }, shape(outline, 11), words);
}

function beginning({ id, time, route, model, stream }) {
  const told = element("time", { datetime: time }, fullTime(time));
  const kind = stream ? "a stream" : "an answer";
  const wanted = model === null ? [] : [` for ${kind} of `, whole(model)];
  return [element("code", {}, whole(id)), " came at ", told, ` to ${route}`, ...wanted, "."];
}

function whole(text) {
  return foreign(text, "bdi", { title: null });
}

function step(attempt, request) {
  const { key, outcome, status, duration_ms: took } = attempt;
  const seen = [
    outcome,
    status === null ? "" : ["status", status, attempt.google_status].filter(Boolean).join(" "),
    attempt.google_reason,
    attempt.quota_id && `quota ${attempt.quota_id}`,
  ];
  const said =
    key === null
      ? [`No key was left (${outcome}).`]
      : [
          element("strong", {}, foreign(key)),
          ` ${VERDICTS[outcome] ?? "came to an end"} (${seen.filter(Boolean).join(", ")})`,
          ` after ${milliseconds(took)};`,
          " charged to ",
          ...payer(attempt, request),
          ".",
          ...words(attempt),
        ];
  return element("li", {}, element("p", {}, ...said), passedOver(attempt.passed_over));
}

/** Google's message, or why there was no answer. */
function words({ message, status }) {
  if (!message) {
    return [];
  }
  return [status === null ? " Why: " : " Google said: ", foreign(message, "q", { title: null })];
}

function payer({ charged_to: charged, key }, { model }) {
  if (charged === "key") {
    return ["the key ", foreign(key)];
  }
  return charged === "model" ? ["the model ", foreign(model ?? "")] : ["nobody"];
}

function passedOver(keys) {
  if (keys.length === 0) {
    return null;
  }
  const items = keys.map(({ key, reason, until }) => {
    const end = until ? [" until ", moment(until)] : [];
    return element("li", {}, foreign(key), `: ${REASONS[reason] ?? reason}`, ...end);
  });
  return element("div", { class: "small" }, "Passed over:", element("ul", {}, ...items));
}

function end(request) {
  const { status, outcome, attempts, duration_ms: took, first_byte_ms: first } = request;
  const { prompt_tokens: input, completion_tokens: output } = request;
  return [
    `The client got status ${status} (${outcome}) after ${counted(attempts, "attempt")}`,
    ` and ${milliseconds(took)}`,
    first === null ? "" : `, the first byte after ${milliseconds(first)}`,
    input === null ? "" : `; ${count(input)} tokens in, ${count(output ?? 0)} out`,
    ".",
  ];
}
