"use strict";

// Shows a prediction: the digit, whether it is doubtful, the probabilities as bars, and what the network saw.

class Answer {
  #digit = document.getElementById("digit");
  #doubt = document.getElementById("doubt");
  #seen = document.getElementById("seen").getContext("2d");
  #bars = Array.from({ length: 10 }, (_, digit) => Answer.#bar(digit));

  constructor() {
    document.getElementById("bars").append(...this.#bars.map((bar) => bar.item));
    this.clear();
  }

  show({ digit, probabilities, doubtful, pixels }) {
    this.#digit.textContent = digit;
    this.#digit.classList.toggle("doubtful", doubtful);
    this.#doubt.hidden = !doubtful;
    this.#bars.forEach((bar, index) => Answer.#set(bar, probabilities[index], index === digit));
    this.#paint(pixels);
  }

  clear() {
    this.#digit.textContent = "";
    this.#doubt.hidden = true;
    for (const bar of this.#bars) Answer.#set(bar, null, false);
    this.#seen.fillRect(0, 0, 28, 28);
  }

  static inWords({ digit, probabilities, doubtful }) {
    return `${digit}, ${Answer.#percent(probabilities[digit])}${doubtful ? ", not sure" : ""}`;
  }

  #paint(rows) {
    const image = this.#seen.createImageData(28, 28);
    rows.flat().forEach((grey, index) => image.data.set([grey, grey, grey, 255], 4 * index));
    this.#seen.putImageData(image, 0, 0);
  }

  static #bar(digit) {
    const [item, value, track, fill, label] = ["li", "span", "span", "span", "span"].map((name) =>
      document.createElement(name)
    );
    value.className = "value";
    track.className = "track";
    label.className = "label";
    label.textContent = digit;
    track.append(fill);
    item.append(label, track, value);
    return { item, value, fill };
  }

  static #set({ item, value, fill }, probability, isAnswer) {
    value.textContent = probability === null ? "" : Answer.#percent(probability);
    fill.style.height = `${100 * (probability ?? 0)}%`;
    item.classList.toggle("best", isAnswer);
  }

  static #percent(probability) {
    return `${Math.round(100 * probability)}%`;
  }
}
