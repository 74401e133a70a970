// Requests: the latest ones on the overview, those of a search on their own tab, and the explanation
// of one.

import { named } from "./api.js";
import { toast } from "./announcements.js";
import { read } from "./dialogs.js";
import { byId, element, foreign, setText } from "./elements.js";
import { count, counted, dollars, milliseconds } from "./figures.js";
import { explainer } from "./help.js";
import { shape } from "./shapes.js";
import { DataTable } from "./table.js";
import { goTo } from "./tabs.js";
import { fullTime, moment } from "./times.js";

/** Requests that are asked for at once. */
const PAGE = 100;
/** Requests that are kept while a search is followed. */
const MOST_FOLLOWED = 5000;
/** A request may end a little after another one, and be recorded before it. */
const SLACK_MS = 1000;
const FILTERS = ["from", "client", "model", "key", "status", "outcome", "failed"];
const WORDS = [
  ["Answer", "The status that the client got, and how the request ended."],
  [
    "Outcome",
    "“success”; “client_gone”: the client left; else why it failed. “Blocked”: Google's answer " +
      "that the contents are not allowed.",
  ],
  ["Key", "The key of the last attempt."],
  ["Attempts", "How many times Google was asked, each time with another key."],
  ["Took", "From the request until the end of the answer."],
  ["First byte", "Until the first byte of the answer's body went to the client."],
  ["Tokens", "As Gemini reports them: of the prompt, and of the answer with its thoughts."],
  ["Cost", "An estimate by the list of prices; a dash if the price is not known."],
];

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

/** The requests of a search, of which only new ones are asked for again. */
class Feed {
  #query;
  #newest = null;
  records = [];
  cursor = null;

  /** `query` are parameters of `GET /admin/requests`. */
  constructor(query) {
    this.#query = query;
  }

  /** Ask the API for what is new; resolves with a function that adds it. */
  async poll(api) {
    const since = this.#newest === null ? {} : { from: new Date(this.#newest).toISOString() };
    const answer = await api.poll(path({ ...this.#query, ...since, limit: PAGE }));
    return () => this.#add(answer);
  }

  /** Ask for older ones. */
  async older(api) {
    const asked = { ...this.#query, limit: PAGE, cursor: this.cursor };
    const { requests, next_cursor: cursor } = await api.get(path(asked));
    this.records = [...this.records, ...this.#unknown(requests)];
    this.cursor = cursor;
  }

  #add({ requests, next_cursor: cursor = null }) {
    const fresh = this.#unknown(requests);
    if (this.#newest === null || (fresh.length === requests.length && fresh.length >= PAGE)) {
      // The first answer, or more has happened than one answer holds.
      this.records = requests;
      this.cursor = cursor;
    } else {
      this.records = [...fresh, ...this.records];
    }
    if (this.records.length > MOST_FOLLOWED) {
      // Begin anew at the next time.
      this.#newest = null;
      return;
    }
    const ends = requests.map(({ time, duration_ms: took }) => Date.parse(time) + took);
    this.#newest = Math.max(this.#newest ?? 0, ...ends.map((end) => end - SLACK_MS)) || null;
  }

  #unknown(requests) {
    const known = new Set(this.records.map(identity));
    return requests.filter((record) => !known.has(identity(record)));
  }
}

function path(parameters) {
  return `requests?${new URLSearchParams(parameters)}`;
}

/** The latest requests, on the overview. `open` is called with one. */
export class LatestRequests {
  #feed = new Feed({});
  #table;

  constructor(open) {
    this.#table = requestTable("request-table", byId("latest-place"), open, [10, 50, 100]);
    byId("only-failed").addEventListener("change", () => this.#render());
    byId("all-requests").addEventListener("click", () => goTo("requests"));
  }

  /** Ask for new ones; resolves with a function that shows them. */
  async poll(api) {
    const add = await this.#feed.poll(api);
    return () => {
      add();
      this.#feed.records = this.#feed.records.slice(0, PAGE);
      this.#render();
    };
  }

  #render() {
    const { records } = this.#feed;
    const shown = byId("only-failed").checked ? records.filter(isNotable) : records;
    const none = records.length === 0 ? "No request is recorded." : "None of the latest requests.";
    this.#table.update(shown, none);
  }
}

/** The tab: a search with filters, followed live. `open` is called with a request. */
export class RequestsTab {
  interval = 0;
  #api;
  #feed = new Feed({});
  #shown = null;
  #form = byId("request-filters");
  #table;

  constructor(api, open) {
    this.#api = api;
    this.#table = requestTable("found-table", byId("request-place"), open, [25, 50, 100, 500]);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      goTo("requests", this.#filters());
    });
    this.#form.addEventListener("reset", () => goTo("requests"));
    byId("older").addEventListener("click", () => this.#older());
    byId("find-request").addEventListener("submit", (event) => {
      event.preventDefault();
      const id = byId("request-id").value.trim();
      if (id !== "") {
        open({ id });
      }
    });
    byId("request-help").append(explainer(WORDS, "operations.md#why-did-this-request-fail"));
  }

  /** Search with these parameters. */
  open(parameters) {
    const query = {};
    for (const name of FILTERS) {
      const value = parameters.get(name) ?? "";
      const field = this.#form.elements[name];
      if (field.type === "checkbox") {
        field.checked = value === "true";
      } else {
        field.value = value;
      }
      if (value !== "") {
        query[name] = value;
      }
    }
    this.#feed = new Feed(query);
    this.#shown = null;
    setText(byId("request-error"), "");
  }

  /** Ask for new ones; resolves with a function that shows them. */
  async poll(api) {
    if (this.#shown === this.#feed && !byId("live").checked) {
      return () => {};
    }
    const feed = this.#feed;
    try {
      const add = await feed.poll(api);
      return () => {
        if (feed === this.#feed) {
          add();
          this.#shown = feed;
          this.#render();
        }
      };
    } catch (error) {
      if (error.status !== 400) {
        throw error;
      }
      return () => {
        this.#shown = feed;
        setText(byId("request-error"), error.message);
        this.#render();
      };
    }
  }

  #filters() {
    const given = [...new FormData(this.#form)].map(([name, value]) => [name, value.trim()]);
    return Object.fromEntries(given.filter(([, value]) => value !== ""));
  }

  async #older() {
    const button = byId("older");
    button.disabled = true;
    try {
      await this.#feed.older(this.#api());
      this.#render();
    } catch (error) {
      toast(error.message);
    } finally {
      button.disabled = false;
    }
  }

  #render() {
    this.#table.update(this.#feed.records, "No such request is recorded.");
    byId("older").hidden = this.#feed.cursor === null;
  }
}

function requestTable(name, place, open, sizes) {
  return new DataTable({
    name,
    place,
    caption: "Requests, newest first.",
    noun: "request",
    id: identity,
    columns: COLUMNS,
    sizes,
    size: sizes[0],
    open,
  });
}

/** Show one request with its attempts. Throws the API's errors. */
export async function explain(api, id) {
  const { request, attempts } = await api.get(named("requests", id));
  const steps = attempts.map((attempt) => step(attempt, request));
  return read(
    "What became of a request",
    element("p", { class: "whole" }, ...beginning(request)),
    steps.length > 0 ? element("ol", { class: "steps" }, ...steps) : refusal(request),
    element("p", { class: "whole" }, ...end(request)),
  );
}

/** Why no key was asked, as far as the outcome tells it; the same words as `gemproxy explain`. */
function refusal({ outcome }) {
  const why = REFUSALS[outcome];
  return why === undefined ? "No key was asked." : `No key was asked: ${why}.`;
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

const REFUSALS = {
  insufficient_quota: "the budget of the client is spent",
  rate_limit_exceeded:
    "a limit of the client, or the proxy's limit of requests in flight, was reached",
};

const COLUMNS = [
  {
    name: "time",
    label: "Time",
    descending: true,
    sort: (record) => Date.parse(record.time),
    cell: (record) => [moment(record.time)],
  },
  { name: "answer", label: "Answer", sort: ({ status }) => status, cell: (record) => [answer(record)] },
  { name: "client", label: "Client", sort: ({ client }) => client, cell: clipped("client") },
  { name: "model", label: "Model", sort: ({ model }) => model, cell: clipped("model") },
  { name: "key", label: "Key", sort: ({ key }) => key, cell: clipped("key") },
  numbers("attempts", "Attempts", ({ attempts }) => attempts, ({ attempts }) => count(attempts)),
  numbers("took", "Took", (one) => one.duration_ms, (one) => milliseconds(one.duration_ms)),
  numbers("first", "First byte", (one) => one.first_byte_ms, (one) => milliseconds(one.first_byte_ms)),
  numbers("tokens", "Tokens", tokens, (one) =>
    one.prompt_tokens === null
      ? "–"
      : `${count(one.prompt_tokens)} → ${count(one.completion_tokens ?? 0)}`,
  ),
  numbers("cost", "Cost", ({ cost_usd: cost }) => cost, ({ cost_usd: cost }) => dollars(cost)),
  { name: "request", label: "Request", cell: ({ id }) => [opener(id)] },
];

function numbers(name, label, sort, words) {
  return { name, label, sort, number: true, descending: true, cell: (record) => [words(record)] };
}

function tokens({ prompt_tokens: input, completion_tokens: output }) {
  return input === null ? null : input + (output ?? 0);
}

function clipped(field) {
  return ({ [field]: text = null }) => [
    text === null ? "–" : foreign(text, "bdi", { class: "clip" }),
  ];
}

/** The row handles the click. */
function opener(id) {
  const label = `Explain ${id}`;
  return foreign(id, "button", {
    type: "button",
    class: "link clip id",
    title: label,
    "aria-label": label,
    "data-opens": true,
  });
}

function answer({ status, outcome, retries }) {
  const good = isServed({ status, outcome });
  const [tone, outline] = good ? (retries > 0 ? RETRIED : SERVED) : FAILED;
  const words = element("span", { class: "clip" }, `${status} ${outcome}`);
  return element("span", { class: `sign ${tone}`, title: outcome }, shape(outline, 11), words);
}

function beginning({ id, time, route, model, stream, client, queue_ms: waited }) {
  const told = element("time", { datetime: time }, fullTime(time));
  const kind = stream ? "a stream" : "an answer";
  const wanted = model === null ? [] : [` for ${kind} of `, whole(model)];
  const sender = client ? [" from ", whole(client)] : [];
  const queue = waited > 0 ? ` It waited ${milliseconds(waited)} for a key.` : "";
  const came = [element("code", {}, whole(id)), " came", ...sender, " at ", told];
  return [...came, ` to ${route}`, ...wanted, ".", queue];
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
  const { prompt_tokens: input, completion_tokens: output, cost_usd: cost } = request;
  const waited = request.queue_ms;
  return [
    `The client got status ${status} (${outcome}) after ${counted(attempts, "attempt")}`,
    ` and ${milliseconds(took)}`,
    waited ? `, of which it waited ${milliseconds(waited)} for a key` : "",
    first === null ? "" : `, the first byte after ${milliseconds(first)}`,
    input === null ? "" : `; ${count(input)} tokens in, ${count(output ?? 0)} out`,
    cost ? `; about ${dollars(cost)}` : "",
    ".",
  ];
}
