// The page: sign-in, sign-out, and the questions of the selected tab, which are repeated.

import { Api, Refused } from "./api.js";
import { toast } from "./announcements.js";
import { ClientsTab } from "./clients.js";
import { Curves } from "./curves.js";
import { byId, setText } from "./elements.js";
import { KeyChanges } from "./keychanges.js";
import { KeyTable } from "./keys.js";
import { Polling } from "./polling.js";
import { QuotasTab } from "./quotas.js";
import { offerReload } from "./reload.js";
import { explain, LatestRequests, RequestsTab } from "./requests.js";
import { showService, showUnknown } from "./service.js";
import { forgetToken, storedToken, storeToken, tokenIsNeedless } from "./session.js";
import { Tabs } from "./tabs.js";
import { duration, setDaemonTime, startTicking, timeOfDay } from "./times.js";
import { UsageTab } from "./usage.js";

const UNAUTHORIZED = 401;
const LOCKED_OUT = 429;

let api = new Api("");
let goneSince = null;
/** When the selected tab was asked for; before that, it is due at once. */
let askedAt = -Infinity;

const current = () => api;
const again = () => {
  askedAt = -Infinity;
  polling.now();
};
const openRequest = ({ id }) => explain(api, id).catch((error) => toast(error.message));

/** The overview asks for its three parts at once. */
class OverviewTab {
  interval = 0;
  #parts = [
    new KeyTable(new KeyChanges(current, again)),
    new Curves(again),
    new LatestRequests(openRequest),
  ];

  open() {}

  async poll(asked) {
    const shows = await Promise.all(this.#parts.map((part) => part.poll(asked)));
    return () => shows.forEach((show) => show());
  }
}

const PARTS = {
  overview: new OverviewTab(),
  clients: new ClientsTab(current, again),
  usage: new UsageTab(current),
  requests: new RequestsTab(current, openRequest),
  quotas: new QuotasTab(),
};

const polling = new Polling(askAll, tellTrouble);
const tabs = new Tabs((name, parameters) => {
  PARTS[name].open(parameters);
  again();
});

/** Ask for the state of the service and, if it is due, for the selected tab, and show both. */
async function askAll() {
  const asked = api;
  const part = PARTS[tabs.selected];
  const now = performance.now();
  const due = now - askedAt >= part.interval;
  askedAt = due ? now : askedAt;
  const [health, show] = await Promise.all([asked.get("health"), due ? part.poll(asked) : null]);
  if (asked === api && !byId("dashboard").hidden) {
    showHealth(health);
    show?.();
  }
}

function showHealth(health) {
  goneSince = null;
  byId("gone").hidden = true;
  byId("dashboard").classList.remove("stale");
  setDaemonTime(health.timestamp);
  showService(health);
}

function tellTrouble(error) {
  askedAt = -Infinity;
  if (error instanceof Refused && [UNAUTHORIZED, LOCKED_OUT].includes(error.status)) {
    signOut(refusal(error));
    return;
  }
  const gone = byId("gone");
  goneSince ??= Date.now();
  const told = error instanceof Refused ? `The daemon answers: ${error.message}` : error.message;
  // The same text each time: a screen reader would announce a changed one.
  setText(gone, `${told} It has been so since ${timeOfDay(goneSince)}. The page goes on asking.`);
  gone.hidden = false;
  byId("dashboard").classList.add("stale");
  showUnknown();
}

// -- signing in and out ---------------------------------------------------------------------------

async function signIn(event) {
  event.preventDefault();
  const input = byId("token");
  const token = input.value.trim();
  const button = event.submitter ?? byId("sign-in-form").querySelector("button");
  if (token === "") {
    setText(byId("sign-in-error"), "Type or paste the admin token.");
    input.focus();
    return;
  }
  button.disabled = true;
  setText(byId("sign-in-error"), "");
  try {
    await new Api(token).get("health");
    storeToken(token);
    input.value = "";
    enter(token);
  } catch (error) {
    setText(byId("sign-in-error"), refusal(error));
    input.select();
  } finally {
    button.disabled = false;
  }
}

function refusal(error) {
  if (error.status === UNAUTHORIZED) {
    return "The daemon does not know this token.";
  }
  if (error.status === LOCKED_OUT && error.retryAfter) {
    return `${error.message} Try again in ${duration(error.retryAfter * 1000)}.`;
  }
  return error.message;
}

function enter(token) {
  api = new Api(token);
  byId("sign-in").hidden = true;
  byId("dashboard").hidden = false;
  byId("sign-out").hidden = tokenIsNeedless();
  tabs.start();
  polling.start();
}

function signOut(reason = "") {
  polling.stop();
  forgetToken();
  // Remove everything that was shown.
  if (!byId("dashboard").hidden && reason === "") {
    location.reload();
    return;
  }
  api = new Api("");
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  byId("dashboard").hidden = true;
  showSignIn(reason);
}

function showSignIn(reason) {
  byId("sign-in").hidden = false;
  setText(byId("sign-in-error"), reason);
  byId("token").focus();
}

byId("sign-in-form").addEventListener("submit", signIn);
byId("sign-out").addEventListener("click", () => signOut());
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.querySelector(".panel:not([hidden]) .first").focus();
});
offerReload(current, again);
startTicking();
if (storedToken() !== "" || tokenIsNeedless()) {
  enter(storedToken());
} else {
  showSignIn("");
}
