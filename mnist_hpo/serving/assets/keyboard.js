"use strict";

// Draws on the pad with the keys: arrows move a pen, two of them diagonally, and Space lowers and lifts it.

class KeyboardPen {
  static STEP = 20;
  static FINE_STEP = 5;
  static DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  #pad;
  #mark;
  #announce;
  #at = { x: Pad.SIDE / 2, y: Pad.SIDE / 4 };
  #held = new Set();
  #isDown = false;

  // `mark` is the circle that shows the pen; `announce` says a text to screen readers.
  constructor(canvas, pad, mark, announce) {
    this.#pad = pad;
    this.#mark = mark;
    this.#announce = announce;
    canvas.addEventListener("keydown", (event) => this.#press(event));
    canvas.addEventListener("keyup", (event) => this.#held.delete(event.key));
    canvas.addEventListener("pointerdown", () => this.#leave()); // The pad has begun another stroke.
    canvas.addEventListener("blur", () => {
      if (this.#isDown) pad.end();
      this.#leave();
    });
    canvas.addEventListener("focus", () => {
      if (canvas.matches(":focus-visible")) this.#show();
    });
  }

  // Lift the pen, if something else than a key has ended its stroke.
  lift() {
    this.#isDown = false;
    this.#mark.classList.remove("down");
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") {
      event.preventDefault();
      if (!event.repeat) this.#toggle();
    } else if (event.key in KeyboardPen.DIRECTIONS) {
      event.preventDefault();
      this.#held.add(event.key);
      this.#move(event.shiftKey ? KeyboardPen.FINE_STEP : KeyboardPen.STEP);
    }
  }

  #toggle() {
    if (this.#isDown) {
      this.lift();
      this.#pad.end();
    } else {
      this.#pad.begin({ ...this.#at });
      this.#isDown = true;
    }
    this.#announce(this.#isDown ? "Pen down" : "Pen up");
    this.#show();
  }

  #move(step) {
    for (const key of this.#held) {
      const [dx, dy] = KeyboardPen.DIRECTIONS[key];
      this.#at.x = Math.min(Math.max(this.#at.x + dx * step, 0), Pad.SIDE);
      this.#at.y = Math.min(Math.max(this.#at.y + dy * step, 0), Pad.SIDE);
    }
    if (this.#isDown) this.#pad.extend([{ ...this.#at }]);
    this.#show();
  }

  #show() {
    this.#mark.setAttribute("cx", this.#at.x);
    this.#mark.setAttribute("cy", this.#at.y);
    this.#mark.classList.toggle("down", this.#isDown);
    this.#mark.classList.remove("hidden");
  }

  #leave() {
    this.#held.clear();
    this.lift();
    this.#mark.classList.add("hidden");
  }
}
