"use strict";

// Answers on this device, in the place of the service.

class Service {
  // More are not read: no browser's canvas holds them everywhere.
  static MAX_PIXELS = 4096 * 4096;

  #worker;
  #model;
  #waiting = new Map();
  #nRequests = 0;

  constructor() {
    const text = (id) => document.getElementById(id).textContent;
    const model = JSON.parse(text("stored-model"));
    const url = URL.createObjectURL(new Blob([text("worker-script")], { type: "text/javascript" }));
    this.#model = model.summary;
    this.#worker = new Worker(url);
    this.#worker.postMessage(model);
    this.#worker.addEventListener("message", ({ data: { id, prediction } }) => {
      this.#waiting.get(id)?.(prediction);
      this.#waiting.delete(id);
    });
  }

  // Return what the service would answer to what is on the pad. Throws RefusedError, or AbortError after `signal`.
  async predict(pad, include, signal) {
    const { data, width, height } = pad.file ? await Service.#decode(pad.file) : pad.pixels();
    signal.throwIfAborted();
    const id = this.#nRequests++, isExplained = include.includes("saliency");
    const prediction = await new Promise((resolve, reject) => {
      this.#waiting.set(id, resolve);
      signal.addEventListener("abort", () => {
        this.#waiting.delete(id);
        this.#worker.postMessage({ id, isStopped: true });
        reject(signal.reason);
      });
      this.#worker.postMessage({ id, rgba: data, width, height, isExplained }, [data.buffer]);
    });
    return { predictions: [prediction], model: this.#model };
  }

  static async #decode(file) {
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
      throw new RefusedError("damaged_image", "the browser cannot read this picture; save it as PNG or JPEG");
    });
    const { width, height } = bitmap;
    if (width * height > Service.MAX_PIXELS) {
      throw new RefusedError(
        "too_many_pixels",
        `the picture has ${width} × ${height} pixels; at most ${Service.MAX_PIXELS} are read, so make it smaller`
      );
    }
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    return context.getImageData(0, 0, width, height);
  }
}
