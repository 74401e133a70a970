// Times: the daemon's clock, countdowns that are updated between two answers, local time in titles.

import { element, setText } from "./elements.js";

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const minute = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const hour = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const day = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

let ahead = 0;

/** Set the daemon's present time, so that countdowns are right if the browser's clock is wrong. */
export function setDaemonTime(timestamp) {
  ahead = Date.parse(timestamp) - Date.now();
}

/** Milliseconds since the epoch, by the daemon's clock. */
export function daemonNow() {
  return Date.now() + ahead;
}

/** 14:03:11 */
export function timeOfDay(time) {
  return clock.format(new Date(time));
}

/** 14:03 */
export function minuteOfDay(time) {
  return minute.format(new Date(time));
}

/** 23 Nov, 14:00 */
export function dayAndHour(time) {
  return hour.format(new Date(time));
}

/** 23 Nov */
export function dateOf(time) {
  return date.format(new Date(time));
}

/** Mon, 23 Nov; `name` is a calendar day such as 2026-11-23, in whatever time zone. */
export function dayOf(name) {
  return day.format(new Date(`${name}T12:00:00`));
}

/** 23 Nov 2026, 14:03:11 CET */
export function fullTime(time) {
  return full.format(new Date(time));
}

/** A countdown to `time`. */
export function countdown(time) {
  return ticking(time, "until", untilWords);
}

/** The time since `time`. */
export function ago(time) {
  return ticking(time, "since", sinceWords);
}

/** The time of day, with the date if it is not today; the whole in its title. */
export function moment(time) {
  const isToday = new Date(time).toDateString() === new Date(daemonNow()).toDateString();
  const words = isToday ? timeOfDay(time) : dayAndHour(time);
  return element("time", { datetime: time, title: fullTime(time) }, words);
}

/** 34 s, 12 min 05 s, 7 h 12 min, 3 days */
export function duration(milliseconds) {
  const seconds = Math.ceil(milliseconds / 1000);
  if (seconds < 60) {
    return `${seconds} s`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)} min ${padded(seconds % 60)} s`;
  }
  if (seconds < 2 * 86_400) {
    return `${Math.floor(seconds / 3600)} h ${padded(Math.floor((seconds % 3600) / 60))} min`;
  }
  return `${Math.floor(seconds / 86_400)} days`;
}

/** Update every countdown of the page. */
export function startTicking() {
  setInterval(tick, 1000);
}

function ticking(time, kind, words) {
  const attributes = { datetime: time, title: fullTime(time), [`data-${kind}`]: Date.parse(time) };
  return element("time", attributes, words(Date.parse(time)));
}

function tick() {
  for (const node of document.querySelectorAll("time[data-until]")) {
    setText(node, untilWords(Number(node.dataset.until)));
  }
  for (const node of document.querySelectorAll("time[data-since]")) {
    setText(node, sinceWords(Number(node.dataset.since)));
  }
}

function untilWords(time) {
  const left = time - daemonNow();
  return left > 0 ? `in ${duration(left)}` : "any moment now";
}

function sinceWords(time) {
  const seconds = Math.max(0, Math.floor((daemonNow() - time) / 1000));
  if (seconds < 5) {
    return "just now";
  }
  if (seconds < 60) {
    return `${seconds} s ago`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)} min ago`;
  }
  return seconds < 2 * 86_400
    ? `${Math.floor(seconds / 3600)} h ago`
    : `${Math.floor(seconds / 86_400)} days ago`;
}

function padded(number) {
  return String(number).padStart(2, "0");
}
