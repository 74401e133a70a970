// The hours and days of an answer about usage, also those in which nothing was used.

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** The last `number` hours of an answer, oldest first, as it writes them. */
export function hoursOf({ to }, number) {
  const last = Math.floor((Date.parse(to) - 1) / HOUR_MS) * HOUR_MS;
  return Array.from({ length: number }, (_, at) => {
    const start = new Date(last - (number - 1 - at) * HOUR_MS);
    return start.toISOString().replace(".000Z", "Z");
  });
}

/**
 * The last `number` days of an answer, oldest first, as it writes them. They are days of the
 * daemon's time zone, which is not known here: the noon of the last day is of its date in UTC, save
 * for the zones that are farthest ahead, whose rows show it.
 */
export function daysOf({ to, usage }, number) {
  const noon = dateOf(Date.parse(to) - DAY_MS / 2);
  const last = usage.reduce((latest, { day }) => (day > latest ? day : latest), noon);
  return Array.from({ length: number }, (_, at) => earlier(last, number - 1 - at));
}

/** The date that is `days` before `date`. */
export function earlier(date, days) {
  return dateOf(Date.parse(`${date}T12:00:00Z`) - days * DAY_MS);
}

function dateOf(milliseconds) {
  return new Date(milliseconds).toISOString().slice(0, 10);
}
