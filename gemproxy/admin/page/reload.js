// Reloads the configuration, and lists its mistakes by line.

import { toast } from "./announcements.js";
import { Refused } from "./api.js";
import { byId, element, foreign } from "./elements.js";
import { counted } from "./figures.js";

const BAD_REQUEST = 400;
/** "proxy.yaml:12: retry.maxAttempts: expected …": place and message. */
const FAULT = /^(.+?:\d+|[^:]+\.ya?ml): (.*)$/su;

/** Let the button reload; `done` is called when the daemon has answered. */
export function offerReload(api, done) {
  const button = byId("reload");
  button.onclick = async () => {
    button.disabled = true;
    byId("reload-result").replaceChildren();
    try {
      toast(success((await api().post("config/reload")).changes));
    } catch (error) {
      failure(error);
    } finally {
      button.disabled = false;
      done();
    }
  };
}

function success(changes) {
  const { settings = [], restart_required: waiting = [] } = changes;
  const parts = [
    changes.keys_added && `${counted(changes.keys_added, "key")} added`,
    changes.keys_removed && `${counted(changes.keys_removed, "key")} removed`,
    changes.keys_updated && `${counted(changes.keys_updated, "key")} changed`,
    changes.clients_added && `${counted(changes.clients_added, "client")} added`,
    changes.clients_removed && `${counted(changes.clients_removed, "client")} removed`,
    changes.clients_updated && `${counted(changes.clients_updated, "client")} changed`,
    settings.length && `changed: ${settings.join(", ")}`,
    waiting.length && `waiting for a restart: ${waiting.join(", ")}`,
  ].filter(Boolean);
  return parts.length === 0 ? "Reloaded; nothing had changed." : `Reloaded: ${parts.join("; ")}.`;
}

function failure(error) {
  const [heading, ...lines] = error.message.split("\n");
  const refused = error instanceof Refused && error.status === BAD_REQUEST;
  const title = refused ? "The files were not loaded" : "The reload failed";
  const close = element("button", { type: "button", click: () => panel.remove() }, "Dismiss");
  const panel = element(
    "div",
    { class: "card bad faults" },
    element("div", { class: "section-head" }, element("h2", {}, title), close),
    foreign(heading, "p", { title: null }),
    lines.length === 0 ? null : element("ul", {}, ...lines.map(fault)),
  );
  byId("reload-result").replaceChildren(panel);
}

function fault(line) {
  const [, place, message] = FAULT.exec(line) ?? [null, null, line];
  return element(
    "li",
    {},
    place === null ? null : element("code", {}, foreign(place, "bdi", { title: null })),
    foreign(message, "span", { title: null }),
  );
}
