// A bar that shows how much of a limit is used.

import { element } from "./elements.js";
import { short } from "./figures.js";

const NEAR = 0.8;

/** How much of a limit is used, from 0; `null` without a limit or without a count. */
export function shareOf(used, limit) {
  if (limit === null || limit === undefined || used === null || used === undefined) {
    return null;
  }
  return limit > 0 ? used / limit : 1;
}

/** Whether 80 % or more are used. */
export function isNear(share) {
  return share !== null && share >= NEAR;
}

/** A bar with its figures: "rpm 12 / 60". Without a count only the limit is shown. */
export function meter({ label, title, used, limit, figure = short }) {
  const share = shareOf(used, limit);
  const fill = element("span", { class: "fill" });
  fill.style.setProperty("inline-size", `${Math.min(1, share ?? 0) * 100}%`);
  const level = share !== null && share >= 1 ? "bad" : isNear(share) ? "warn" : "good";
  const words = share === null ? figure(limit) : `${figure(used)} / ${figure(limit)}`;
  return element(
    "span",
    { class: "limit", title },
    label === "" ? null : element("span", { class: "small" }, label),
    element("span", { class: `meter ${level}`, "aria-hidden": "true" }, share === null ? null : fill),
    element("span", { class: "limit-words" }, words),
  );
}
