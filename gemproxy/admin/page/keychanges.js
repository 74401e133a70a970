// Changes of keys; each asks for confirmation first.

import { toast } from "./announcements.js";
import { named } from "./api.js";
import { sign, conditionOf, explanationOf } from "./conditions.js";
import { ask, details, read } from "./dialogs.js";
import { element, foreign } from "./elements.js";
import { count, counted, milliseconds, percent, rate } from "./figures.js";
import { shape } from "./shapes.js";
import { countdown, fullTime, moment } from "./times.js";

/** The number of concurrent requests. */
const AT_ONCE = 4;
const MANY = {
  reset: {
    confirm: "Reset",
    done: "Reset",
    words:
      "Their breakers are closed and their cooldowns are forgotten: they get requests at once. " +
      "If nothing has changed at Google's, the next ones fail as before.",
  },
  enable: {
    confirm: "Enable",
    done: "Enabled",
    words: "They get requests again. Their breakers and cooldowns stay as they are.",
  },
  disable: {
    confirm: "Disable",
    done: "Disabled",
    danger: true,
    words:
      "They get no more requests until somebody enables them again, also after a restart. " +
      "Those in flight are finished.",
  },
};

/** `api` returns the client of the API; `done` is called after each change. */
export class KeyChanges {
  #api;
  #done;

  constructor(api, done) {
    this.#api = api;
    this.#done = done;
  }

  disable(key) {
    return this.#simple(key, "disable", {
      confirm: "Disable",
      danger: true,
      words:
        "It gets no more requests until somebody enables it again, also after a restart. " +
        "Those in flight are finished.",
    });
  }

  enable(key) {
    return this.#simple(key, "enable", {
      confirm: "Enable",
      words: "It gets requests again. Its breaker and its cooldowns stay as they are.",
    });
  }

  reset(key) {
    return this.#simple(key, "reset", {
      confirm: "Reset",
      words:
        "Its breaker is closed and its cooldowns are forgotten: it gets requests at once. " +
        "If nothing has changed at Google's, the next ones fail as before.",
    });
  }

  /**
   * Change `keys`; `state` is their filter, if it selects exactly these. Resolves with whether it
   * was done.
   */
  async many(action, keys, state) {
    const { confirm, words, danger = false } = MANY[action];
    const answer = await ask({
      title: [`${confirm} ${counted(keys.length, "key")}?`],
      body: [element("p", {}, words)],
      confirm,
      danger,
      act: () =>
        state === ""
          ? this.#each(action, keys)
          : this.#api().post(`keys/${action}`, { all: true, state }),
    });
    if (answer !== undefined) {
      toast(answer.message);
      this.#done();
    }
    return answer !== undefined;
  }

  /** Send a few requests at a time. */
  async #each(action, keys) {
    const waiting = [...keys];
    const one = async () => {
      while (waiting.length > 0) {
        await this.#api().post(named("keys", waiting.shift().id, action));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    return { message: `${MANY[action].done} ${counted(keys.length, "key")}.` };
  }

  weigh(key) {
    const input = element("input", {
      id: "new-weight",
      type: "number",
      min: 1,
      max: 1000,
      step: 1,
      required: true,
      value: key.weight,
      "data-first": true,
    });
    const fromFile = element(
      "button",
      { type: "submit", formnovalidate: true, class: "link other" },
      "Go back to the file's weight",
    );
    const body = [
      element("p", {}, "A key with twice the weight gets twice the requests."),
      element("label", { for: "new-weight" }, "Weight, 1 to 1,000"),
      input,
    ];
    const options = { confirm: "Change", other: fromFile };
    return this.#asked(key, "Change the weight of ", body, options, (button) =>
      this.#api().put(named("keys", key.id, "weight"), {
        weight: button === fromFile ? null : input.valueAsNumber,
      }),
    );
  }

  /** Show all fields of a key, unabridged. */
  details(key) {
    const facts = {
      State: [element("div", {}, sign(conditionOf(key), shape)), ...explanationOf(key)],
      Project: [foreign(key.project)],
      Secret: [element("code", {}, key.masked)],
      Id: [element("code", {}, key.id)],
      Health: [health(key)],
      Weight: [`${key.weight}, acts as ${rate(key.effective_weight)}`],
      Requests: [`${count(key.requests_total)} since it was first seen`],
      Latency: [latency(key)],
      "Last used": [key.last_used === null ? "never" : fullTime(key.last_used)],
      "Out of quota": cooldowns(key),
      "Models denied": listed(key.denied_models ?? [], (model) => [foreign(model)]),
      "Last error": error(key.last_error),
    };
    return read([foreign(key.name)], details(Object.entries(facts)));
  }

  #simple(key, action, { words, ...options }) {
    const title = `${options.confirm} `;
    return this.#asked(key, title, [element("p", {}, words)], options, () =>
      this.#api().post(named("keys", key.id, action)),
    );
  }

  async #asked(key, title, body, options, act) {
    const question = [title, foreign(key.name), "?"];
    const answer = await ask({ title: question, body, ...options, act });
    if (answer !== undefined) {
      toast(answer.message);
      this.#done();
    }
  }
}

function health(key) {
  const { health_score: score, success_count: served, failure_count: failed } = key;
  return `${percent(score)} · ${count(served)} served and ${count(failed)} failed of late`;
}

function latency({ avg_latency_ms: average, p95_latency_ms: slowest }) {
  return average === null
    ? "no answer yet"
    : `${milliseconds(average)} on average, 95 % within ${milliseconds(slowest)}`;
}

function cooldowns(key) {
  return listed(key.cooldowns, ({ model, until, reason }) => [
    model === "*" ? "every model" : foreign(model),
    ` (${reason}) until `,
    moment(until),
    ", ",
    countdown(until),
  ]);
}

function listed(things, nodesOf) {
  return things.length === 0
    ? ["none"]
    : [element("ul", {}, ...things.map((thing) => element("li", {}, ...nodesOf(thing))))];
}

function error(last) {
  if (last === null) {
    return ["none"];
  }
  const status = last.status === null ? "" : ` ${last.status}`;
  return [
    `${last.outcome}${status}, ${fullTime(last.at)}`,
    foreign(last.message, "div", { class: "whole", title: null }),
  ];
}
