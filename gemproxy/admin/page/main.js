// The page: sign-in, sign-out, and the requests that are sent every two seconds.

import { Api, Refused } from "./api.js";
import { toast } from "./announcements.js";
import { Curves } from "./curves.js";
import { byId, setText } from "./elements.js";
import { KeyChanges } from "./keychanges.js";
import { KeyTable } from "./keys.js";
import { Polling } from "./polling.js";
import { offerReload } from "./reload.js";
import { ASKED, explain, RequestTable } from "./requests.js";
import { showService, showUnknown } from "./service.js";
import { forgetToken, storedToken, storeToken, tokenIsNeedless } from "./session.js";
import { duration, setDaemonTime, startTicking, timeOfDay } from "./times.js";

const UNAUTHORIZED = 401;
const LOCKED_OUT = 429;

let api = new Api("");
let goneSince = null;

const polling = new Polling(askAll, tellTrouble);
const keyTable = new KeyTable(new KeyChanges(() => api, () => polling.now()));
const requestTable = new RequestTable((id) =>
  explain(api, id).catch((error) => toast(error.message)),
);
const curves = new Curves();

/** Fetch all parts concurrently and show them. */
async function askAll() {
  const asked = api;
  const answers = await Promise.all([
    asked.get("health"),
    asked.get("keys"),
    asked.get("metrics/series"),
    asked.get(`requests?limit=${ASKED}`),
  ]);
  if (asked === api && !byId("dashboard").hidden) {
    showAll(...answers);
  }
}

function showAll(health, { keys }, { minutes }, { requests }) {
  goneSince = null;
  byId("gone").hidden = true;
  byId("dashboard").classList.remove("stale");
  setDaemonTime(health.timestamp);
  showService(health);
  keyTable.update(keys);
  curves.update(minutes);
  requestTable.update(requests);
}

function tellTrouble(error) {
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
offerReload(() => api, () => polling.now());
startTicking();
if (storedToken() !== "" || tokenIsNeedless()) {
  enter(storedToken());
} else {
  showSignIn("");
}
