"use strict";

// Asks the service.

class RefusedError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

class Service {
  token = ""; // Nothing stores it.

  // Return the answer of /v1/predict to a file. Throws RefusedError, or AbortError after `signal`.
  async predict(file, include, signal) {
    const body = new FormData();
    body.append("file", file, "drawing");
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    let response, answer;
    try {
      response = await fetch(`/v1/predict?include=${include}`, { method: "POST", body, headers, signal });
      answer = await response.json();
    } catch (error) {
      if (signal.aborted) throw error;
      throw new RefusedError("unreachable", "the service does not answer; is it still running?");
    }
    if (!response.ok) throw new RefusedError(answer.error.code, answer.error.message);
    return answer;
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

  get isAsked() {
    return this.#isAsked;
  }

  stop() {
    this.#isAsked = false;
    this.#running?.abort();
  }
}
