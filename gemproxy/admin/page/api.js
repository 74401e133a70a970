// The admin API of the daemon that served this page.

const PATIENCE_MS = 15_000;

/** An answer that refuses; `message` is the daemon's own. */
export class Refused extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** No answer came. */
export class Unreachable extends Error {}

/** Asks with `token`; without one where it is empty. */
export class Api {
  #authorization;

  constructor(token) {
    // A header holds bytes; these are the ones that the daemon compares.
    const bytes = String.fromCharCode(...new TextEncoder().encode(token));
    this.#authorization = token ? { Authorization: `Bearer ${bytes}` } : {};
  }

  /** The answer to GET; `path` as it follows `/admin/`. */
  get(path) {
    return this.#ask("GET", path);
  }

  /** The answer to a change, which may say what it wants. */
  post(path, body) {
    return this.#ask("POST", path, body);
  }

  /** The answer to a change that says what it wants. */
  put(path, body) {
    return this.#ask("PUT", path, body);
  }

  async #ask(method, path, body) {
    const headers = { ...this.#authorization };
    if (body !== undefined) {
      headers["Content-Type"] = "application/json";
    }
    let response;
    let answer;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      answer = await response.text();
    } catch (error) {
      throw new Unreachable("The daemon does not answer.", { cause: error });
    }
    return read(response, answer);
  }
}

/** The path of a key or a request, whose name may hold anything. */
export function named(...segments) {
  return segments.map(encodeURIComponent).join("/");
}

function read(response, text) {
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // Not the daemon's words, but those of something that stands before it.
  }
  if (response.ok && answer !== null) {
    return answer;
  }
  if (answer?.error?.message === undefined) {
    const { status } = response;
    throw new Unreachable(`Something other than the daemon answers, with status ${status}.`);
  }
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  throw new Refused(response.status, answer.error.message, retryAfter);
}
