// Changes of clients, each with a confirmation, and the token, which is shown once.

import { toast } from "./announcements.js";
import { named } from "./api.js";
import { ask, details, read, readOnce } from "./dialogs.js";
import { element, foreign, setText } from "./elements.js";
import { counted, dollars } from "./figures.js";
import { fullTime } from "./times.js";

const PRIORITIES = ["high", "normal", "low"];
/** The fields of the form: name, label, explanation, and where they stand in the client. */
const TEXTS = [
  ["models", "Models", "Names or patterns such as gemini-3*, with commas; empty: all"],
  ["endpoints", "Endpoints", "chat, responses, messages, embeddings, native, with commas; empty: all"],
  ["addresses", "Addresses", "Networks such as 10.0.0.0/8, with commas; empty: all"],
];
const LIMITS = [
  ["rpm", "Requests a minute"],
  ["tpm", "Tokens a minute"],
  ["rpd", "Requests a day"],
  ["tpd", "Tokens a day"],
  ["concurrent", "Requests at once"],
];
const BUDGETS = [
  ["usdPerDay", "US dollars a day"],
  ["usdPerMonth", "US dollars a month"],
];

/** What a new client has unless it or the defaults say otherwise. */
const NEW = {
  models: [],
  endpoints: [],
  addresses: [],
  expires: null,
  priority: "normal",
  debug: false,
  limits: {},
  budget: {},
};

/** `api` returns the client of the API; `done` is called after each change. */
export class ClientChanges {
  #api;
  #done;

  constructor(api, done) {
    this.#api = api;
    this.#done = done;
  }

  /** Make a client. */
  async make() {
    const form = new ClientForm(null);
    const answer = await ask({
      title: ["New client"],
      body: form.nodes,
      confirm: "Make the client",
      wide: true,
      act: () => this.#api().post("clients", form.value),
    });
    await this.#finish(answer, (made) => `The client ${made.name} is made.`);
  }

  /** Change what a client may. */
  async edit(client) {
    const form = new ClientForm(client);
    const answer = await ask({
      title: ["Change ", foreign(client.name)],
      body: form.nodes,
      confirm: "Change",
      wide: true,
      act: () => this.#api().patch(named("clients", client.name), form.value),
    });
    await this.#finish(answer, () => `The client ${client.name} is changed.`);
  }

  /** Give a client a new token. */
  async rotate(client) {
    const grace = field("number", { id: "grace", min: 0, step: 1, value: 3600, "data-first": true });
    const answer = await ask({
      title: ["New token for ", foreign(client.name), "?"],
      body: [
        element("p", {}, "The old token stays valid for a while, so that nothing fails meanwhile."),
        element("label", { for: "grace" }, "Seconds that the old token stays valid"),
        grace,
      ],
      confirm: "Make a new token",
      act: () =>
        this.#api().post(named("clients", client.name, "rotate"), {
          graceSeconds: grace.valueAsNumber,
        }),
    });
    await this.#finish(answer, () => `The client ${client.name} has a new token.`);
  }

  /** Enable or disable a client. */
  async enable(client, enabled) {
    const words = enabled
      ? "Its token is accepted again."
      : "Its requests are refused (401) until somebody enables it. Those in flight are finished.";
    const verb = enabled ? "Enable" : "Disable";
    const answer = await ask({
      title: [`${verb} `, foreign(client.name), "?"],
      body: [element("p", {}, words)],
      confirm: verb,
      danger: !enabled,
      act: () => this.#api().patch(named("clients", client.name), { enabled }),
    });
    const state = enabled ? "enabled" : "disabled";
    await this.#finish(answer, () => `The client ${client.name} is ${state}.`);
  }

  /** Delete a client. */
  async revoke(client) {
    const answer = await ask({
      title: ["Revoke ", foreign(client.name), "?"],
      body: [
        element(
          "p",
          {},
          "The client is deleted, and its token is refused at once and for good. " +
            "What it has used stays counted.",
        ),
      ],
      confirm: "Revoke",
      danger: true,
      act: async () => (await this.#api().delete(named("clients", client.name))) ?? {},
    });
    await this.#finish(answer, () => `The client ${client.name} is revoked.`);
  }

  /** Show all fields of a client. */
  details(client) {
    const { limits, budget, used } = client;
    const list = (texts) => (texts.length > 0 ? texts.join(", ") : "all");
    const facts = {
      Kept: client.source === "file" ? "in clients.yaml" : "in the state; it was made here",
      Enabled: client.enabled ? "yes" : "no",
      Expires: client.expires ?? "never",
      Models: list(client.models),
      Endpoints: list(client.endpoints),
      Addresses: list(client.addresses),
      Priority: client.priority,
      "Last minute": amount(used.requests_minute, used.tokens_minute),
      "This day": `${amount(used.requests_day, used.tokens_day)}, ${dollars(used.usd_day)}`,
      "This month": dollars(used.usd_month),
      Limits: values(limits),
      Budget: values(budget),
      "Last seen": client.last_seen ? fullTime(client.last_seen) : "never",
    };
    const rows = Object.entries(facts).map(([term, text]) => [
      term,
      foreign(text, "bdi", { title: null }),
    ]);
    const change = element("button", { type: "button" }, "Change");
    change.addEventListener("click", () => {
      change.closest("dialog").close();
      this.edit(client);
    });
    return read(
      [foreign(client.name)],
      details(rows),
      client.source === "file" ? null : change,
    );
  }

  async #finish(answer, words) {
    if (answer === undefined) {
      return;
    }
    toast(words(answer.client ?? answer));
    this.#done();
    if (answer.token) {
      await showToken(answer.client.name, answer.token);
    }
  }
}

function amount(requests, tokens) {
  return `${counted(requests, "request")}, ${counted(tokens, "token")}`;
}

/** The fields of `given` that are not as in `known`. */
function differing(given, known) {
  return Object.fromEntries(
    Object.entries(given).filter(
      ([name, value]) => JSON.stringify(value) !== JSON.stringify(known[name] ?? null),
    ),
  );
}

function values(fields) {
  const set = Object.entries(fields).filter(([, value]) => value !== null);
  return set.length === 0 ? "none" : set.map(([name, value]) => `${name} ${value}`).join(", ");
}

/** The token is in the page only while this dialog is open. */
function showToken(name, token) {
  const shown = field("text", { id: "new-token", readonly: true, value: token, class: "token" });
  shown.addEventListener("focus", () => shown.select());
  const told = element("p", { class: "small", role: "status" });
  const copy = element("button", { type: "button", class: "primary" }, "Copy the token");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(token);
      setText(told, "Copied.");
    } catch {
      // Without TLS a browser gives no clipboard to a page, save on loopback.
      shown.select();
      setText(told, "The browser does not let the page copy: the token is selected, copy it by hand.");
    }
  });
  return readOnce(
    ["The token of ", foreign(name)],
    element("p", {}, "It is shown this once: only its digest is kept."),
    element("label", { for: "new-token" }, "Token"),
    shown,
    element("div", { class: "copy" }, copy, told),
  );
}

/** The fields of a client; `client` is the one that is changed, or `null` for a new one. */
class ClientForm {
  #client;
  #fields = new Map();

  constructor(client) {
    this.#client = client;
    this.nodes = [element("div", { class: "form" }, ...this.#build())];
  }

  /** The body of the request: only what was changed, since the defaults say the rest. */
  get value() {
    const client = this.#client ?? NEW;
    const given = {
      ...this.#lists(),
      expires: this.#text("expires") || null,
      priority: this.#text("priority"),
      debug: this.#fields.get("debug").checked,
    };
    const limits = differing(this.#numbers(LIMITS), client.limits);
    const budget = differing(this.#numbers(BUDGETS), client.budget);
    return {
      ...(this.#client === null ? { name: this.#text("name") } : {}),
      ...differing(given, client),
      ...(Object.keys(limits).length > 0 ? { limits } : {}),
      ...(Object.keys(budget).length > 0 ? { budget } : {}),
    };
  }

  #build() {
    const client = this.#client ?? NEW;
    const { limits, budget } = client;
    const nodes = [];
    if (this.#client === null) {
      nodes.push(
        this.#add("name", "Name", field("text", { required: true, maxlength: 64, "data-first": true }), "wide"),
      );
    }
    for (const [name, label, hint] of TEXTS) {
      const value = client[name].join(", ");
      nodes.push(this.#add(name, label, field("text", { value }), "wide", hint));
    }
    nodes.push(
      this.#add(
        "expires",
        "Expires",
        field("text", { value: client.expires ?? "" }),
        "half",
        "A day such as 2027-06-30, or a time; empty: never",
      ),
      this.#add("priority", "Priority", priorities(client.priority), "half", "While keys are short"),
    );
    for (const [name, label] of LIMITS) {
      nodes.push(this.#add(name, label, field("number", { min: 1, step: 1, value: limits[name] ?? "" })));
    }
    for (const [name, label] of BUDGETS) {
      const value = budget[name] ?? "";
      nodes.push(this.#add(name, label, field("number", { min: 0, step: "any", value })));
    }
    const debug = element("input", { type: "checkbox", checked: client.debug });
    this.#fields.set("debug", debug);
    nodes.push(element("label", { class: "check wide" }, debug, "Tell it which key served a request"));
    return nodes;
  }

  #add(name, label, control, kind = null, hint = null) {
    control.id = `client-${name}-field`;
    this.#fields.set(name, control);
    const told = hint && element("div", { class: "small", id: `${control.id}-hint` }, hint);
    if (told !== null) {
      control.setAttribute("aria-describedby", told.id);
    }
    const named = element("label", { for: control.id }, label);
    return element("div", { class: kind }, named, told, control);
  }

  #text(name) {
    return this.#fields.get(name).value.trim();
  }

  #lists() {
    const parts = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);
    return Object.fromEntries(TEXTS.map(([name]) => [name, parts(this.#text(name))]));
  }

  #numbers(fields) {
    return Object.fromEntries(
      fields.map(([name]) => [name, this.#text(name) === "" ? null : Number(this.#text(name))]),
    );
  }
}

function priorities(present) {
  const options = PRIORITIES.map((name) =>
    element("option", { value: name, selected: name === present }, name),
  );
  return element("select", {}, ...options);
}

function field(type, attributes) {
  return element("input", { type, autocomplete: "off", spellcheck: "false", ...attributes });
}
