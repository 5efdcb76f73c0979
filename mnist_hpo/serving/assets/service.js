"use strict";

// Asks the service.

class Service {
  token = ""; // Nothing stores it.

  // Return the answer of /v1/predict to what is on the pad. Throws RefusedError, or AbortError after `signal`.
  async predict(pad, include, signal) {
    const body = new FormData();
    body.append("file", await pad.content(), "drawing");
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
