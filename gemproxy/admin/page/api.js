// The admin API of the daemon that served this page.

const PATIENCE_MS = 15_000;

/** The daemon refused a request; `message` is its message. */
export class Refused extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** There was no answer. */
export class Unreachable extends Error {}

/** A client of the API. An empty `token` is not sent. */
export class Api {
  #authorization;

  constructor(token) {
    // A header holds bytes: encode the token as the daemon compares it, in UTF-8.
    const bytes = String.fromCharCode(...new TextEncoder().encode(token));
    this.#authorization = token ? { Authorization: `Bearer ${bytes}` } : {};
  }

  /** The answer to GET; `path` is relative to `/admin/`. */
  get(path) {
    return this.#ask("GET", path);
  }

  /** The answer to a POST, with or without a body. */
  post(path, body) {
    return this.#ask("POST", path, body);
  }

  /** The answer to a PUT with a body. */
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

/** A path with the name of a key or the id of a request, which may contain any character. */
export function named(...segments) {
  return segments.map(encodeURIComponent).join("/");
}

function read(response, text) {
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // The body is not the daemon's: a proxy in front of it answered.
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
