"use strict";

// The drawing pad. It shows strokes, or a picture in their place. The bitmap has a fixed size and is always dark on
// white, so what is recognised depends neither on the screen nor on the colour scheme.

class Pad {
  static SIDE = 560;
  static WIDTH = 34;

  #canvas;
  #context;
  #strokes = [];
  #picture = null;
  #isDrawing = false;
  #onChange;
  #onEnd;

  // `onChange` is called after each change, and `onEnd` at the end of a stroke, which changes nothing more.
  constructor(canvas, onChange, onEnd) {
    this.#canvas = canvas;
    // Kept in main memory, since each change is read back.
    this.#context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    this.#onChange = onChange;
    this.#onEnd = onEnd;
    this.#paint();
    this.#listen();
  }

  get isEmpty() {
    return this.#picture === null && this.#strokes.length === 0;
  }

  get isDrawing() {
    return this.#isDrawing;
  }

  // The pixels of the shown picture that have this box, as a box on the pad.
  placeOf([left, top, right, bottom]) {
    if (!this.#picture?.bitmap) return null;
    const [x, y, scale] = this.#fit();
    return { x: x + left * scale, y: y + top * scale, width: (right - left) * scale, height: (bottom - top) * scale };
  }

  // The file of the shown picture, or null if strokes are shown.
  get file() {
    return this.#picture?.file ?? null;
  }

  // The file to be recognised: the picture itself, or a PNG of the strokes.
  content() {
    if (this.#picture) return Promise.resolve(this.#picture.file);
    return new Promise((resolve) => this.#canvas.toBlob(resolve, "image/png"));
  }

  // The pixels of the strokes, as ImageData.
  pixels() {
    return this.#context.getImageData(0, 0, Pad.SIDE, Pad.SIDE);
  }

  begin(point) {
    this.#picture = null;
    this.#isDrawing = true;
    this.#strokes.push([point]);
    this.#changed();
  }

  extend(points) {
    this.#strokes.at(-1).push(...points);
    this.#changed();
  }

  end() {
    if (!this.#isDrawing) return;
    this.#isDrawing = false;
    this.#onEnd();
  }

  undo() {
    if (this.#picture) this.#picture = null;
    else this.#strokes.pop();
    this.#isDrawing = false;
    this.#changed();
  }

  clear() {
    this.#strokes = [];
    this.#picture = null;
    this.#isDrawing = false;
    this.#changed();
  }

  // Show a file. One that the browser cannot show may still be a picture to the service, so it is kept.
  async show(file) {
    const bitmap = await createImageBitmap(file).catch(() => null);
    this.#strokes = [];
    this.#isDrawing = false;
    this.#picture = { file, bitmap };
    this.#changed();
  }

  #changed() {
    this.#paint();
    this.#onChange();
  }

  #paint() {
    const context = this.#context;
    context.fillStyle = "#fff";
    context.fillRect(0, 0, Pad.SIDE, Pad.SIDE);
    this.#canvas.classList.toggle("picture", this.#picture !== null);
    if (this.#picture?.bitmap) {
      const { bitmap } = this.#picture;
      const [x, y, scale] = this.#fit();
      context.drawImage(bitmap, x, y, bitmap.width * scale, bitmap.height * scale);
    }
    context.strokeStyle = context.fillStyle = "#111";
    context.lineWidth = Pad.WIDTH;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.#strokes) Pad.#trace(context, stroke);
  }

  // Draw a smooth curve: parabolas between the middles of neighbouring points.
  static #trace(context, points) {
    const [first] = points, last = points.at(-1);
    context.beginPath();
    context.arc(first.x, first.y, Pad.WIDTH / 2, 0, 2 * Math.PI);
    context.fill();
    context.beginPath();
    context.moveTo(first.x, first.y);
    for (let i = 1; i < points.length - 1; i++) {
      const { x, y } = points[i], next = points[i + 1];
      context.quadraticCurveTo(x, y, (x + next.x) / 2, (y + next.y) / 2);
    }
    context.lineTo(last.x, last.y);
    context.stroke();
  }

  // Where the picture lies on the pad: left, top and scale.
  #fit() {
    const { width, height } = this.#picture.bitmap;
    const scale = Pad.SIDE / Math.max(width, height);
    return [(Pad.SIDE - width * scale) / 2, (Pad.SIDE - height * scale) / 2, scale];
  }

  // Only the first of several fingers draws.
  #listen() {
    let pointer = null;
    this.#canvas.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary || event.button !== 0) return;
      pointer = event.pointerId;
      this.#canvas.setPointerCapture(pointer);
      this.begin(this.#pointOf(event));
    });
    this.#canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== pointer || !this.#isDrawing) return;
      const events = event.getCoalescedEvents?.() ?? [];
      this.extend((events.length ? events : [event]).map((each) => this.#pointOf(each)));
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
      this.#canvas.addEventListener(name, (event) => {
        if (event.pointerId !== pointer) return;
        pointer = null;
        this.end();
      });
    }
  }

  #pointOf(event) {
    const box = this.#canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * Pad.SIDE) / box.width,
      y: ((event.clientY - box.top) * Pad.SIDE) / box.height,
    };
  }
}
