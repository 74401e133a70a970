// Dialogs: one for questions before a change, one for reading. The browser itself gives the focus
// back to where it was.

import { element, setText } from "./elements.js";

let serial = 0;

/**
 * Ask before something is done. `act` does it, and is told which button it was; while it works the
 * dialog waits, and what it raises is shown in the dialog. `body` are nodes; `other` is a button
 * beside the usual one, after it since Enter presses the first. Resolves with what `act` gave, or
 * `undefined` where the answer was no.
 */
export function ask({ title, body, confirm, danger = false, other = null, act }) {
  return new Promise((resolve) => {
    const trouble = element("p", { class: "error", role: "alert" });
    const kind = danger ? "danger" : "primary";
    const yes = element("button", { type: "submit", class: kind }, confirm);
    const no = element("button", { type: "button", click: () => dialog.close() }, "Cancel");
    const form = element(
      "form",
      { submit: (event) => attempt(event, { act, trouble, yes, no, dialog, done }) },
      ...body,
      trouble,
      element("div", { class: "choices" }, no, yes),
      other,
    );
    const dialog = frame(title, form);
    let result;
    function done(given) {
      result = given;
      dialog.close();
    }
    open(dialog, () => resolve(result));
    (dialog.querySelector("[data-first]") ?? no).focus();
  });
}

/** Show something to read; resolves when it is closed. `content` are nodes. */
export function read(title, ...content) {
  return new Promise((resolve) => {
    const close = element("button", { type: "button", click: () => dialog.close() }, "Close");
    const dialog = frame(title, ...content, element("div", { class: "choices" }, close));
    dialog.classList.add("wide");
    open(dialog, resolve);
    // The beginning, which is where one reads from; the button may be far below.
    dialog.querySelector("h2").focus();
  });
}

async function attempt(event, { act, trouble, yes, no, dialog, done }) {
  event.preventDefault();
  yes.disabled = no.disabled = true;
  dialog.setAttribute("aria-busy", "true");
  setText(trouble, "");
  try {
    done(await act(event.submitter));
  } catch (error) {
    setText(trouble, error.message);
  } finally {
    dialog.removeAttribute("aria-busy");
    yes.disabled = no.disabled = false;
  }
}

function frame(title, ...content) {
  serial += 1;
  const id = `dialog-title-${serial}`;
  const heading = element("h2", { id, tabindex: -1 }, ...[title].flat());
  return element("dialog", { "aria-labelledby": id }, heading, ...content);
}

function open(dialog, closed) {
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  // A click beside the dialog closes it, as Escape does.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && !dialog.hasAttribute("aria-busy")) {
      dialog.close();
    }
  });
  document.body.append(dialog);
  dialog.showModal();
}
