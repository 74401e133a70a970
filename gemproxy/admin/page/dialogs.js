// Dialogs: one that asks before a change, one that shows text. The browser restores the focus when
// they close.

import { element, setText } from "./elements.js";

let serial = 0;

/**
 * Ask for confirmation. `act` gets the value of the pressed button and makes the change; the dialog
 * stays open meanwhile, and shows the error if `act` fails. `body` are nodes; `other` is a further
 * button after the usual one, since Enter presses the first. Resolves with the result of `act`, or
 * `undefined` if the user declined.
 */
export function ask({ title, body, confirm, danger = false, other = null, wide = false, act }) {
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
    dialog.classList.toggle("wide", wide);
    let result;
    function done(given) {
      result = given;
      dialog.close();
    }
    open(dialog, () => resolve(result));
    (dialog.querySelector("[data-first]") ?? no).focus();
  });
}

/** Show `content`, which are nodes; resolves when the dialog is closed. */
export function read(title, ...content) {
  return opened(title, content, { label: "Close", beside: true });
}

/** The same for what is not shown again: a click beside the dialog does not close it. */
export function readOnce(title, ...content) {
  return opened(title, content, { label: "Done", beside: false });
}

function opened(title, content, { label, beside }) {
  return new Promise((resolve) => {
    const close = element("button", { type: "button", click: () => dialog.close() }, label);
    const dialog = frame(title, ...content, element("div", { class: "choices" }, close));
    dialog.classList.add("wide");
    open(dialog, resolve, beside);
    // Scroll to the beginning: the focused button may be far below.
    dialog.querySelector("h2").focus();
  });
}

/** A list of terms and what is said of each: pairs of a text and of a node, a text or a list. */
export function details(pairs) {
  const rows = pairs.map(([term, said]) =>
    element("div", {}, element("dt", {}, term), element("dd", {}, said)),
  );
  return element("dl", { class: "details" }, ...rows);
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

function open(dialog, closed, beside = true) {
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  // A click beside the dialog closes it, as Escape does.
  dialog.addEventListener("click", (event) => {
    if (beside && event.target === dialog && !dialog.hasAttribute("aria-busy")) {
      dialog.close();
    }
  });
  document.body.append(dialog);
  dialog.showModal();
}
