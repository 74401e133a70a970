// Bars: the share of a whole, and how much of a limit is used.

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

/** A bar that is filled by `share`, from 0 to 1; `null` is drawn without a filling. */
export function bar(share, level) {
  const fill = share === null ? null : element("span", { class: "fill" });
  fill?.style.setProperty("inline-size", `${Math.min(1, share) * 100}%`);
  const attributes = { class: `meter ${level}`, "aria-hidden": "true" };
  return element("span", attributes, fill);
}

/** A bar with its figures: "rpm 12 / 60". Without a count only the limit is shown. */
export function meter({ label, title, used, limit, figure = short }) {
  const share = shareOf(used, limit);
  const level = share !== null && share >= 1 ? "bad" : isNear(share) ? "warn" : "good";
  const words = share === null ? figure(limit) : `${figure(used)} / ${figure(limit)}`;
  return element(
    "span",
    { class: "limit", title },
    label === "" ? null : element("span", { class: "small" }, label),
    bar(share, level),
    element("span", { class: "limit-words" }, words),
  );
}
