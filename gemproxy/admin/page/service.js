// The headline: one sentence about the service, and its reasons.

import { byId, element, foreign, setText, show } from "./elements.js";
import { counted } from "./figures.js";
import { shape } from "./shapes.js";
import { ago, duration, fullTime } from "./times.js";

const LOOKS = {
  healthy: { tone: "good", shape: "disc" },
  degraded: { tone: "warn", shape: "diamond" },
  unhealthy: { tone: "bad", shape: "triangle" },
  gone: { tone: "off", shape: "bar" },
};
const BACKENDS = { sqlite: "SQLite", json: "the JSON fallback", none: "nowhere" };
// The headline contains this already.
const SAID = ["No key can serve.", "Requests that failed in the last"];

/** Show the health that the API reports. */
export function showService(health) {
  look(health.draining ? "degraded" : health.status);
  setText(byId("headline"), headline(health));
  const said = health.reasons.filter((reason) => !SAID.some((words) => reason.startsWith(words)));
  const reasons = [...said, ...(health.warnings ?? [])];
  show(byId("reasons"), reasons, (sentences) =>
    sentences.map((sentence) => foreign(sentence, "li")),
  );
  showFacts(health);
  setText(byId("version"), health.version);
  show(byId("config"), health.config, configuration);
  document.title = health.status === "healthy" ? "gemproxy" : `gemproxy: ${health.status}`;
}

/** Show that the present state is unknown. */
export function showUnknown() {
  look("gone");
  setText(byId("headline"), "The daemon does not answer.");
  show(byId("reasons"), [], () => []);
  document.title = "gemproxy: no answer";
}

function look(name) {
  const { tone, shape: outline } = LOOKS[name];
  byId("service").className = `service card ${tone}`;
  show(byId("service-shape"), name, () => shape(outline, 40));
  // On the tab, so that it is seen from the others as well.
  byId("overview-shape").className = `tab-shape sign ${tone}`;
  show(byId("overview-shape"), name, () => shape(outline, 11));
}

function headline({ headline: words, draining, in_flight: inFlight }) {
  return draining ? `Draining: ${counted(inFlight, "request")} to finish, then it stops.` : words;
}

function showFacts(health) {
  const { backend, last_checkpoint: checkpoint } = health.persistence;
  const facts = [
    ["In flight", String(health.in_flight)],
    ["Running for", duration(health.uptime * 1000)],
    ["State kept in", BACKENDS[backend] ?? backend, checkpoint],
  ];
  show(byId("facts"), facts, () => facts.map(fact));
}

function fact([term, text, checkpoint]) {
  const title = checkpoint ? `last written ${fullTime(checkpoint)}` : null;
  return element("div", {}, element("dt", {}, term), element("dd", { title }, text));
}

function configuration({ generation, loaded_at: loadedAt }) {
  return [`Configuration ${generation}, loaded `, ago(loadedAt)];
}
