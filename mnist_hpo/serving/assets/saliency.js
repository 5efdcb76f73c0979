"use strict";

// Shows which pixels decided, as a map over the image: orange for the answer, blue against it.

class SaliencyMap {
  // The same colours as those of the legend in page.css.
  static FOR = [255, 138, 0];
  static AGAINST = [64, 156, 255];

  #canvas = document.getElementById("map");
  #legend = document.getElementById("legend");

  // Show the drops of the answer's probability, 28 rows of 28; the strongest gets the fullest colour.
  show(rows) {
    const context = this.#canvas.getContext("2d"), image = context.createImageData(28, 28), values = rows.flat();
    const strongest = Math.max(...values.map(Math.abs), 1e-6);
    values.forEach((value, index) => {
      const colour = value > 0 ? SaliencyMap.FOR : SaliencyMap.AGAINST;
      image.data.set([...colour, (230 * Math.abs(value)) / strongest], 4 * index);
    });
    context.putImageData(image, 0, 0);
    this.#canvas.hidden = this.#legend.hidden = false;
  }

  clear() {
    this.#canvas.hidden = this.#legend.hidden = true;
  }
}
