// The tab of clients: how they stand, what they may, and what they have used today.

import { ClientChanges } from "./clientchanges.js";
import { byId, element, setText } from "./elements.js";
import { count, dollars, short } from "./figures.js";
import { explainer } from "./help.js";
import { isNear, meter, shareOf } from "./meters.js";
import { shape } from "./shapes.js";
import { DataTable } from "./table.js";
import { goTo } from "./tabs.js";
import { ago, dayAndHour, daemonNow, fullTime } from "./times.js";

const DAY_MS = 86_400_000;
const SOON_MS = 7 * DAY_MS;
/** Worst first; as of keys, a shape shows what the colour does. */
const STATES = {
  expired: { rank: 0, word: "Expired", tone: "bad", outline: "triangle" },
  over: { rank: 1, word: "At a limit", tone: "warn", outline: "hourglass" },
  soon: { rank: 2, word: "Expires soon", tone: "warn", outline: "diamond" },
  disabled: { rank: 3, word: "Disabled", tone: "off", outline: "bar" },
  enabled: { rank: 4, word: "Enabled", tone: "good", outline: "disc" },
};
/** The limits and budgets, with what is counted for each. */
const LIMITS = [
  ["rpm", "requests in 60 seconds", ({ limits }) => limits.rpm, (used) => used.requests_minute, short],
  ["tpm", "tokens in 60 seconds", ({ limits }) => limits.tpm, (used) => used.tokens_minute, short],
  ["rpd", "requests today", ({ limits }) => limits.rpd, (used) => used.requests_day, short],
  ["tpd", "tokens today", ({ limits }) => limits.tpd, (used) => used.tokens_day, short],
  ["at once", "requests in flight", ({ limits }) => limits.concurrent, (used) => used.concurrent, short],
  ["$ day", "estimated cost today", budgetOf("usdPerDay"), (used) => used.usd_day, dollars],
  ["$ month", "estimated cost this month", budgetOf("usdPerMonth"), (used) => used.usd_month, dollars],
];
const WORDS = [
  ["Client", "Who sends requests, known by an access token of its own."],
  ["From the file", "It is in clients.yaml, and is changed there."],
  ["rpm, tpm", "Requests and tokens in 60 seconds, wherever these begin."],
  ["rpd, tpd", "Requests and tokens of a calendar day in the daemon's time zone."],
  ["at once", "Requests in flight; a stream is one until its end."],
  ["$ day, $ month", "The budget. The cost is an estimate."],
  ["Requests, tokens, cost", "Those of today, a calendar day in the daemon's time zone."],
  ["At a limit", "A limit or a budget is used up: requests get 429 until it begins anew."],
  ["Rotate", "Makes a new token; the old one stays valid for as long as you say."],
  ["Revoke", "Deletes the client; its token is refused at once. What it used stays counted."],
];
const FILTERS = {
  "": () => true,
  near: (client) => isNear(nearest(client)),
  refused: (client) => ["expired", "disabled"].includes(stateOf(client)),
  idle: (client) => client.today.requests === 0,
};

/** The tab. `api` returns the client of the API, `again` asks it now. */
export class ClientsTab {
  interval = 5000;
  #clients = new Map();
  #version = "";
  #table;

  constructor(api, again) {
    const changes = new ClientChanges(api, again);
    this.#table = new DataTable({
      name: "client-table",
      place: byId("client-place"),
      caption: "Every client with its limits and what it used today.",
      noun: "client",
      id: ({ name }) => name,
      order: "state",
      columns: columns(changes),
      tone: (client) => STATES[stateOf(client)].tone,
    });
    byId("client-state").addEventListener("change", () => this.#filter());
    byId("client-search").addEventListener("input", () => this.#filter());
    byId("make-client").addEventListener("click", () => changes.make());
    byId("client-help").append(explainer(WORDS, "usage.md"));
  }

  open(parameters) {
    byId("client-search").value = parameters.get("search") ?? "";
    this.#filter();
  }

  /** Ask the API; resolves with a function that shows the answer. */
  async poll(api) {
    const answer = await api.poll(`clients?since=${this.#version}`);
    return () => this.#apply(answer);
  }

  #apply({ version = "", complete = true, clients }) {
    this.#version = version;
    if (complete) {
      this.#clients = new Map();
    }
    for (const client of clients) {
      this.#clients.set(client.name, client);
    }
    this.#render();
  }

  #filter() {
    this.#table.rewind();
    this.#render();
  }

  #render() {
    const wanted = byId("client-search").value.trim().toLowerCase();
    const admits = FILTERS[byId("client-state").value];
    const shown = [...this.#clients.values()].filter(
      (client) => admits(client) && client.name.toLowerCase().includes(wanted),
    );
    const none =
      this.#clients.size === 0
        ? "There are no clients yet: make one here, or write clients.yaml."
        : "No such client.";
    this.#table.update(shown, none);
  }
}

function columns(changes) {
  return [
    {
      name: "key",
      label: "Client",
      head: true,
      sort: ({ name }) => name,
      live: (present) => named(present, changes),
    },
    {
      name: "state",
      label: "State",
      sort: (client) => STATES[stateOf(client)].rank,
      mark: (client) => [stateOf(client), client.expires],
      cell: state,
    },
    {
      name: "limits",
      label: "Limits",
      title: "Used and allowed; the most used first",
      descending: true,
      sort: nearest,
      mark: ({ limits, budget, used }) => [limits, budget, used],
      cell: limits,
    },
    number("requests", "Requests", ({ today }) => today.requests, count),
    number("failed", "Failed", ({ today }) => failures(today), count),
    number("tokens", "Tokens", ({ today }) => tokens(today), short),
    number("cost", "Cost", ({ today }) => today.cost_usd, dollars),
    {
      name: "seen",
      label: "Last seen",
      descending: true,
      sort: ({ last_seen: seen }) => seen && Date.parse(seen),
      mark: ({ last_seen: seen }) => seen,
      cell: ({ last_seen: seen }) => [seen ? ago(seen) : "never"],
    },
    { name: "change", label: "Change", unseen: true, live: (present) => buttons(present, changes) },
  ];
}

function number(name, label, of, figure) {
  return {
    name,
    label,
    title: "Today",
    number: true,
    descending: true,
    sort: of,
    mark: of,
    cell: (client) => [figure(of(client))],
  };
}

function named(present, changes) {
  const button = element("button", { type: "button", class: "link name", dir: "auto" });
  button.addEventListener("click", () => changes.details(present()));
  const below = element("div", { class: "small" });
  const update = ({ name, source, priority }) => {
    setText(button, name);
    button.title = `${name}: everything about this client`;
    const first = priority === "normal" ? "" : `, priority ${priority}`;
    setText(below, `${source === "file" ? "from the file" : "made here"}${first}`);
  };
  return { nodes: [button, below], update };
}

function buttons(present, changes) {
  const names = ["Requests", "Rotate", "Disable", "Revoke"];
  const all = names.map((name) => element("button", { type: "button" }, name));
  const [requests, rotate, onOff, revoke] = all;
  requests.addEventListener("click", () => goTo("requests", { client: present().name }));
  rotate.addEventListener("click", () => changes.rotate(present()));
  onOff.addEventListener("click", () => changes.enable(present(), !present().enabled));
  revoke.addEventListener("click", () => changes.revoke(present()));
  const update = ({ name, source, enabled }) => {
    setText(onOff, enabled ? "Disable" : "Enable");
    for (const button of all) {
      button.setAttribute("aria-label", `${button.textContent} ${name}`);
      button.hidden = source === "file" && button !== requests;
    }
    requests.setAttribute("aria-label", `Requests of ${name}`);
  };
  return { nodes: [element("div", { class: "buttons" }, ...all)], update };
}

function state(client) {
  const { word, tone, outline } = STATES[stateOf(client)];
  const { expires } = client;
  const until = expires ? [expiry(client) > daemonNow() ? "until " : "since ", ending(expires)] : [];
  return [
    element("span", { class: `sign ${tone}` }, shape(outline), word),
    element("div", { class: "small" }, ...until),
  ];
}

function ending(expires) {
  const words = isDate(expires) ? expires : dayAndHour(expires);
  return element("time", { datetime: expires, title: isDate(expires) ? null : fullTime(expires) }, words);
}

function limits(client) {
  const set = limitsOf(client);
  if (set.length === 0) {
    return element("span", { class: "small" }, "no limits");
  }
  const meters = set.map(({ label, words, limit, used, figure }) =>
    meter({ label, title: words, used, limit, figure }),
  );
  return element("div", { class: "limits" }, ...meters);
}

/** The limits and budgets that are set, with what is used of each. */
function limitsOf(client) {
  return LIMITS.map(([label, words, of, counted, figure]) => {
    return { label, words, limit: of(client), used: counted(client.used), figure };
  }).filter(({ limit }) => limit !== null && limit !== undefined);
}

function budgetOf(name) {
  return ({ budget }) => budget[name];
}

/** The largest share of a limit that is used; `null` without limits. */
function nearest(client) {
  const shares = limitsOf(client)
    .map(({ used, limit }) => shareOf(used, limit))
    .filter((share) => share !== null);
  return shares.length === 0 ? null : Math.max(...shares);
}

function stateOf(client) {
  const ends = expiry(client);
  if (ends !== null && ends <= daemonNow()) {
    return "expired";
  }
  if (!client.enabled) {
    return "disabled";
  }
  if ((nearest(client) ?? 0) >= 1) {
    return "over";
  }
  return ends !== null && ends - daemonNow() < SOON_MS ? "soon" : "enabled";
}

/** When its token becomes invalid; a date counts until its end, here in the browser's time zone. */
function expiry({ expires }) {
  if (!expires) {
    return null;
  }
  return isDate(expires) ? Date.parse(`${expires}T00:00:00`) + DAY_MS : Date.parse(expires);
}

function isDate(text) {
  return text.length === "2026-11-30".length;
}

function failures({ failures: { theirs, ours, upstream } }) {
  return theirs + ours + upstream;
}

function tokens({ tokens: { input, output } }) {
  return input + output;
}
