// Polling: only while the page is visible, and more slowly if the daemon or the network is slow.

const INTERVAL_MS = 2000;
const LONGEST_MS = 30_000;
// The first list of ten thousand keys takes long to encode; polling must not keep the daemon busy.
const REST_FOR_WORK = 10;

/**
 * Calls `ask` repeatedly, with longer pauses after each consecutive failure. Its errors go to
 * `failed`, which may stop the polling.
 */
export class Polling {
  #ask;
  #failed;
  #failures = 0;
  #timer = null;
  #running = false;
  #asking = false;
  #again = false;

  constructor(ask, failed) {
    this.#ask = ask;
    this.#failed = failed;
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
    addEventListener("online", () => this.now());
  }

  start() {
    this.#running = true;
    this.#failures = 0;
    this.now();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  /** Poll now. */
  now() {
    clearTimeout(this.#timer);
    if (this.#asking) {
      this.#again = true;
    } else if (this.#running) {
      this.#turn();
    }
  }

  async #turn() {
    const began = performance.now();
    this.#asking = true;
    let error = null;
    try {
      await this.#ask();
    } catch (raised) {
      error = raised;
    }
    this.#asking = false;
    if (!this.#running) {
      return;
    }
    this.#failures = error === null ? 0 : this.#failures + 1;
    const pause = this.#pause(performance.now() - began);
    if (error !== null) {
      this.#failed(error);
    }
    if (this.#running) {
      this.#rest(pause);
    }
  }

  #pause(took) {
    if (this.#failures > 0) {
      return Math.min(LONGEST_MS, INTERVAL_MS * 2 ** (this.#failures - 1));
    }
    return Math.max(INTERVAL_MS, Math.min(LONGEST_MS, took * REST_FOR_WORK));
  }

  #rest(pause) {
    if (this.#again && this.#failures === 0) {
      this.#again = false;
      this.#turn();
    } else if (!document.hidden) {
      this.#again = false;
      this.#timer = setTimeout(() => this.#turn(), pause);
    }
  }
}
