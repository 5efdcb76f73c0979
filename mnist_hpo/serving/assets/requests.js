"use strict";

// What asking for answers needs, whether the service or this device gives them.

class RefusedError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

// Does some work each time it is asked to, but once at a time: what is asked for meanwhile is done once, afterwards.
class Newest {
  #work;
  #running = null;
  #isAsked = false;

  // `work` takes an AbortSignal, and returns a promise.
  constructor(work) {
    this.#work = work;
  }

  async ask() {
    this.#isAsked = true;
    if (this.#running) return;
    while (this.#isAsked) {
      this.#isAsked = false;
      this.#running = new AbortController();
      try {
        await this.#work(this.#running.signal);
      } finally {
        this.#running = null;
      }
    }
  }

  get isRunning() {
    return this.#running !== null;
  }

  get isAsked() {
    return this.#isAsked;
  }

  stop() {
    this.#isAsked = false;
    this.#running?.abort();
  }
}
