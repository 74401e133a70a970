// The condition of a key, its cause and its end, from the fields of the API.

import { element, foreign } from "./elements.js";
import { counted } from "./figures.js";
import { countdown } from "./times.js";

/** Worst first. `tone` is a colour; `shape` shows the same without colour. */
export const CONDITIONS = {
  attention: { rank: 0, word: "Needs a person", tone: "bad", shape: "triangle" },
  open: { rank: 1, word: "Taken out", tone: "bad", shape: "triangle" },
  trial: { rank: 2, word: "On trial", tone: "warn", shape: "diamond" },
  cooling: { rank: 3, word: "Out of quota", tone: "warn", shape: "hourglass" },
  disabled: { rank: 4, word: "Disabled", tone: "off", shape: "bar" },
  denied: { rank: 5, word: "Serving in part", tone: "good", shape: "ring" },
  serving: { rank: 6, word: "Serving", tone: "good", shape: "disc" },
};

/** Reasons for `needs_attention`, as sentences about the key. */
const TROUBLES = {
  invalid: "Google does not know this key",
  expired: "Google says that it has expired",
  leaked: "Google blocks it, since it was reported as leaked",
  suspended: "Google has suspended its project",
  forbidden: "Google forbids what it asks for",
  service_disabled: "The Gemini API is switched off in its project",
  billing: "Its project needs billing",
};
const QUOTAS = { quota_minute: "this minute's quota", quota_day: "today's quota" };

/** The words of the table, for who reads it for the first time. */
export const WORDS = [
  ["Serving", "The key gets requests. “In part”: Google does not let it use some models."],
  [
    "Out of quota",
    "Google said that the quota of its project for a model is used up. The project is not asked " +
      "for this model until the time that is shown; for other models it serves.",
  ],
  [
    "On trial",
    "It was taken out, and the time is over: one request shows whether it serves again.",
  ],
  [
    "Taken out",
    "It failed several times in a row, so its breaker is open: it gets no requests until the time " +
      "that is shown.",
  ],
  [
    "Needs a person",
    "Google rejects the key itself, for example as expired or leaked. Replace or repair it.",
  ],
  ["Disabled", "Somebody has switched it off. It stays so until somebody enables it."],
  ["Project", "The Google Cloud project of the key. Quota is counted for the project."],
  ["Health", "The share of the requests of the latest time that the key served."],
  [
    "Weight",
    "A key with twice the weight gets twice the requests. “Acts as”: poor health reduces it.",
  ],
  ["Latency, p95", "How long the latest answers took; 95 % of them took no longer than p95."],
  ["Reset", "Closes the breaker and forgets the times of used-up quota: it gets requests at once."],
];

/** The name of a key's condition, as in `CONDITIONS`. */
export function conditionOf(key) {
  if (!key.enabled || key.status === "disabled") {
    return "disabled";
  }
  if (key.needs_attention !== null) {
    return "attention";
  }
  if (key.status === "circuit_open") {
    return "open";
  }
  if (key.status === "circuit_half_open") {
    return "trial";
  }
  if (key.cooldowns.length > 0) {
    return "cooling";
  }
  return key.denied_models?.length ? "denied" : "serving";
}

/** The states by which keys can be filtered, as the admin API defines them. */
const STATES = {
  attention: (key) => key.enabled && key.needs_attention !== null,
  open: (key) => key.status === "circuit_open",
  "half-open": (key) => key.status === "circuit_half_open",
  cooling: (key) => key.enabled && key.cooldowns.length > 0,
  disabled: (key) => key.status === "disabled",
  trouble: (key) => CONDITIONS[conditionOf(key)].rank < CONDITIONS.disabled.rank,
};

/** Whether the key is in this state; the empty name matches every key. */
export function isIn(key, state) {
  return state === "" || STATES[state](key);
}

/** Why the key does not serve, in one word of the API; empty if it does. */
export function reasonOf(key) {
  return REASONS[conditionOf(key)]?.(key) ?? "";
}

/** The heading of the keys that do not serve for the same reason. */
export function groupOf(key) {
  const condition = conditionOf(key);
  const reason = reasonOf(key);
  const { word } = CONDITIONS[condition];
  return reason === "" ? word : `${word}: ${GROUPS[reason] ?? reason}`;
}

const REASONS = {
  attention: (key) => key.needs_attention,
  open: (key) => key.last_error?.outcome,
  trial: (key) => key.last_error?.outcome,
  cooling: (key) => key.cooldowns[0].reason,
};
const GROUPS = { ...QUOTAS, service_disabled: "API switched off" };

/** The cause and the end of the condition, as nodes of a sentence. */
export function explanationOf(key) {
  return EXPLANATIONS[conditionOf(key)](key);
}

const EXPLANATIONS = {
  attention: (key) => [
    TROUBLES[key.needs_attention] ?? `Google refuses it (${key.needs_attention})`,
    ...(key.next_retry === null ? [] : [" · tried again ", countdown(key.next_retry)]),
  ],
  open: (key) => [
    counted(key.consecutive_failures, "failure"),
    " in a row",
    ...(key.next_retry === null ? [] : [" · tried again ", countdown(key.next_retry)]),
  ],
  trial: () => ["The next request decides whether it serves again"],
  cooling: (key) => cooling(key.cooldowns),
  disabled: () => ["Until somebody enables it"],
  denied: (key) =>
    key.denied_models.length === 1
      ? ["Not ", foreign(key.denied_models[0], "bdi", { class: "inline" })]
      : [`Not ${counted(key.denied_models.length, "model")}`],
  serving: () => [],
};

function cooling(cooldowns) {
  const first = cooldowns.reduce((one, other) =>
    Date.parse(other.until) < Date.parse(one.until) ? other : one,
  );
  const quota = QUOTAS[first.reason] ?? first.reason;
  if (cooldowns.length > 1) {
    return [`${counted(cooldowns.length, "model")} · the first is back `, countdown(first.until)];
  }
  return [...concerned(first.model), ` · ${quota} · back `, countdown(first.until)];
}

function concerned(model) {
  return model === "*" ? ["Every model"] : [foreign(model, "bdi", { class: "inline" })];
}

/** The label of a condition: its shape and its word. */
export function sign(condition, shapeOf) {
  const { word, tone, shape } = CONDITIONS[condition];
  return element("span", { class: `sign ${tone}` }, shapeOf(shape), word);
}
