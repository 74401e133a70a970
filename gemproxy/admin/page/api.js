// The admin API of the daemon that served this page.

const PATIENCE_MS = 15_000;
const NO_CONTENT = 204;
const NOT_MODIFIED = 304;
/** Answers that are kept for the next time they are asked for. */
const MOST_ANSWERS = 12;

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
  /** The latest answers to repeated questions, with their ETags, by path. */
  #answers = new Map();

  constructor(token) {
    // A header holds bytes: encode the token as the daemon compares it, in UTF-8.
    const bytes = String.fromCharCode(...new TextEncoder().encode(token));
    this.#authorization = token ? { Authorization: `Bearer ${bytes}` } : {};
  }

  /** The answer to GET; `path` is relative to `/admin/`. */
  get(path) {
    return this.#ask("GET", path);
  }

  /** The same for a question that is asked again and again: the same object if nothing changed. */
  async poll(path) {
    const known = this.#answers.get(path);
    const headers = known === undefined ? {} : { "If-None-Match": known.etag };
    const { response, text } = await this.#fetch("GET", path, headers);
    if (response.status === NOT_MODIFIED && known !== undefined) {
      return known.answer;
    }
    const answer = read(response, text);
    const etag = response.headers.get("ETag");
    if (etag !== null) {
      this.#answers.delete(path);
      this.#answers.set(path, { etag, answer });
      const [oldest] = this.#answers.keys();
      if (this.#answers.size > MOST_ANSWERS) {
        this.#answers.delete(oldest);
      }
    }
    return answer;
  }

  /** The answer to GET as text of this type. */
  async text(path, type) {
    const { response, text } = await this.#fetch("GET", path, { Accept: type });
    return response.ok ? text : read(response, text);
  }

  /** The answer to a POST, with or without a body. */
  post(path, body) {
    return this.#ask("POST", path, body);
  }

  /** The answer to a PUT with a body. */
  put(path, body) {
    return this.#ask("PUT", path, body);
  }

  /** The answer to a PATCH with a body. */
  patch(path, body) {
    return this.#ask("PATCH", path, body);
  }

  /** The answer to a DELETE. */
  delete(path) {
    return this.#ask("DELETE", path);
  }

  async #ask(method, path, body) {
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    const encoded = body === undefined ? undefined : JSON.stringify(body);
    const { response, text } = await this.#fetch(method, path, headers, encoded);
    return response.status === NO_CONTENT ? null : read(response, text);
  }

  async #fetch(method, path, headers, body) {
    try {
      const response = await fetch(path, {
        method,
        headers: { ...this.#authorization, ...headers },
        body,
        cache: "no-store",
        redirect: "error",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      return { response, text: await response.text() };
    } catch (error) {
      throw new Unreachable("The daemon does not answer.", { cause: error });
    }
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
