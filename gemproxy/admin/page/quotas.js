// The tab of quotas: how much of each is used, and when it will be gone.

import { byId, element, foreign } from "./elements.js";
import { count, percent } from "./figures.js";
import { explainer } from "./help.js";
import { isNear, meter, shareOf } from "./meters.js";
import { DataTable } from "./table.js";
import { countdown, dayAndHour, moment } from "./times.js";

const GROUPS = { "": null, project: ({ project }) => project, model: ({ model }) => model };
const WORDS = [
  [
    "Quota",
    "What Google grants a project for a model: requests or tokens, in a minute or a day.",
  ],
  ["rpm, rpd", "Requests in 60 seconds, and on a day, which begins at midnight in Los Angeles."],
  ["tpm, tpd", "Tokens in the same times."],
  ["Learned", "From Google's answer when the quota was used up."],
  ["Configured", "The limits of a key in keys.yaml."],
  ["Used", "Counted here, so without what others use of the same project."],
  ["Begins anew", "When what is used now no longer counts."],
  ["Gone", "When it will be used up at the pace of the last hour, if that is before it begins anew."],
];
const STATES = {
  "": () => true,
  near: (quota) => isNear(shareOf(quota.used, quota.limit)),
  forecast: isShort,
};

/** The tab. */
export class QuotasTab {
  interval = 10_000;
  #quotas = [];
  #table;

  constructor() {
    this.#table = new DataTable({
      name: "quota-table",
      place: byId("quota-place"),
      caption: "Quotas, the most used first.",
      noun: "quota",
      id: ({ project, model, dimension, source, key, quota_id: quota }) =>
        JSON.stringify([project, model, dimension, source, key, quota]),
      order: "used",
      columns: COLUMNS,
      tone: (quota) => (isUsedUp(quota) ? "bad" : isShort(quota) ? "warn" : null),
      summary: (quotas) => `${count(quotas.filter(STATES.near).length)} nearly used up`,
    });
    byId("quota-state").addEventListener("change", () => this.#filter());
    byId("quota-search").addEventListener("input", () => this.#filter());
    byId("quota-group").addEventListener("change", () =>
      this.#table.groupBy(GROUPS[byId("quota-group").value]),
    );
    byId("quota-help").append(explainer(WORDS, "quotas.md"));
  }

  open(parameters) {
    byId("quota-search").value = parameters.get("search") ?? "";
    this.#filter();
  }

  /** Ask the API; resolves with a function that shows the answer. */
  async poll(api) {
    const answer = await api.poll("quotas");
    return () => {
      this.#quotas = answer;
      this.#render();
    };
  }

  #filter() {
    this.#table.rewind();
    this.#render();
  }

  #render() {
    const wanted = byId("quota-search").value.trim().toLowerCase();
    const admits = STATES[byId("quota-state").value];
    const told = ({ project, model, dimension, key, quota_id: quota }) =>
      [project, model, dimension, key, quota].join("\n");
    const shown = this.#quotas.filter(
      (quota) => admits(quota) && told(quota).toLowerCase().includes(wanted),
    );
    const none =
      this.#quotas.length === 0
        ? "No quota is known yet: none is configured, and none was met."
        : "No such quota.";
    this.#table.update(shown, none);
  }
}

const COLUMNS = [
  {
    name: "project",
    label: "Project",
    head: true,
    sort: ({ project }) => project,
    cell: ({ project }) => [foreign(project, "bdi", { class: "clip" })],
  },
  {
    name: "model",
    label: "Model",
    sort: ({ model }) => model,
    cell: ({ model }) => [model === "*" ? "every model" : foreign(model, "bdi", { class: "clip" })],
  },
  {
    name: "dimension",
    label: "Of",
    sort: ({ dimension }) => dimension,
    cell: ({ dimension }) => [foreign(dimension, "span", { class: "clip" })],
  },
  {
    name: "used",
    label: "Used",
    title: "Counted here; the most used first",
    descending: true,
    sort: ({ used, limit }) => shareOf(used, limit),
    mark: ({ used, limit }) => [used, limit],
    cell: ({ used, limit }) => [meter({ label: "", used, limit, figure: count })],
  },
  {
    name: "left",
    label: "Left",
    number: true,
    sort: ({ used, limit }) => limit - used,
    mark: ({ used, limit }) => [used, limit],
    cell: ({ used, limit }) => [
      limit === 0 ? "none" : count(Math.max(0, limit - used)),
      limit === 0
        ? null
        : element("div", { class: "small" }, percent(Math.max(0, 1 - used / limit))),
    ],
  },
  {
    name: "ends",
    label: "Begins anew",
    sort: ({ ends }) => ends && Date.parse(ends),
    mark: ({ ends }) => ends,
    cell: ({ ends }) => [ends ? countdown(ends) : element("span", { class: "small" }, "not used")],
  },
  {
    name: "gone",
    label: "Gone (forecast)",
    sort: ({ exhausted_at: at }) => at && Date.parse(at),
    mark: (quota) => [quota.exhausted_at, isShort(quota), isUsedUp(quota), quota.limit],
    cell: forecast,
  },
  {
    name: "source",
    label: "Known from",
    sort: ({ source }) => source,
    mark: ({ source, key, quota_id: quota }) => [source, key, quota],
    cell: ({ source, key, quota_id: quota }) => [
      source === "learned" ? "a 429 of Google's" : "keys.yaml",
      foreign(key ?? quota ?? "", "div", { class: "small clip" }),
    ],
  },
];

function isUsedUp({ used, limit }) {
  return used >= limit;
}

/** Whether it will be gone before it begins anew. */
function isShort({ exhausted_at: at, ends }) {
  return Boolean(at) && (!ends || Date.parse(at) < Date.parse(ends));
}

function forecast(quota) {
  const { exhausted_at: at, limit } = quota;
  if (isUsedUp(quota)) {
    return element("span", { class: "sign bad" }, limit === 0 ? "no quota" : "used up");
  }
  if (!at) {
    return element("span", { class: "small" }, "not at this pace");
  }
  if (!isShort(quota)) {
    return element("span", { class: "small" }, `not before ${dayAndHour(at)}`);
  }
  return [moment(at), element("div", { class: "small" }, countdown(at))];
}
