// Formats numbers.

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const cents = new Intl.NumberFormat("en", { maximumSignificantDigits: 2, maximumFractionDigits: 6 });
const NONE = "–";

/** 12,345 */
export function count(number) {
  return whole.format(number);
}

/** 12.3K */
export function short(number) {
  return Math.abs(number) < 10_000 ? whole.format(Math.round(number)) : compact.format(number);
}

/** 0.42, 3.1, 128: two significant digits below ten, whole numbers above. */
export function rate(number) {
  return number >= 10 ? whole.format(Math.round(number)) : precise.format(number);
}

/** 97 %; 100 % only if nothing is missing. */
export function percent(share) {
  const hundredths = share * 100;
  if (hundredths > 99 && hundredths < 100) {
    return "99 %";
  }
  const few = hundredths > 0 && hundredths < 10;
  return `${few ? precise.format(hundredths) : Math.round(hundredths)} %`;
}

/** 870 ms, 4.2 s, 3 min; a dash for no value. */
export function milliseconds(number) {
  if (number === null || number === undefined) {
    return NONE;
  }
  if (number < 1000) {
    return `${number < 10 ? precise.format(number) : Math.round(number)} ms`;
  }
  return number < 60_000 ? `${(number / 1000).toFixed(1)} s` : `${Math.round(number / 60_000)} min`;
}

/** $0.0042, $1.20, $1,234; a dash for what is not known. */
export function dollars(number) {
  if (number === null || number === undefined) {
    return NONE;
  }
  if (number > 0 && number < 0.01) {
    return `$${cents.format(number)}`;
  }
  return number < 1000 ? `$${number.toFixed(2)}` : `$${whole.format(Math.round(number))}`;
}

/** "1 key", "3 keys" */
export function counted(number, noun) {
  return `${whole.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}
