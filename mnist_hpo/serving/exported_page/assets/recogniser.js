"use strict";

// Answers with the networks of a page as the service does: the digit, its probability, doubt, and which pixels decided.

class Recogniser {
  #network;
  #detector;
  #settings;

  // `model` is what mnist_hpo/serving/exported_page/description.py describes.
  constructor({ network, doubt, arrays, settings }) {
    const stored = new Arrays(arrays);
    this.#network = new Network(network, stored);
    this.#detector = doubt && { ...doubt, networks: doubt.networks.map((each) => new Network(each, stored)) };
    this.#settings = settings;
  }

  answer(pixels) {
    const logs = this.#network.logProbabilities(pixels), probabilities = Array.from(logs, Math.exp);
    const digit = probabilities.indexOf(Math.max(...probabilities));
    const isBlank = !pixels.some((grey) => grey > 0);
    const isUnsure = this.#detector ? this.#isDoubtful(pixels, logs) : probabilities[digit] < this.#settings.sure;
    return { digit, probabilities, doubtful: isBlank || isUnsure };
  }

  // As in mnist_hpo/doubt/doubt.py.
  #isDoubtful(pixels, logs) {
    const { networks, other, digit, centres, scales, threshold, sharpness, leastEntropy } = this.#detector;
    const scores = networks.map((network) => {
      const found = network.logProbabilities(pixels);
      return found[other] - found[digit];
    });
    const entropy = -logs.reduce((sum, log) => sum + (Number.isFinite(log) ? Math.exp(log) * log : 0), 0);
    scores.push(Math.log(Math.max(entropy, leastEntropy)));
    const scaled = scores.map((score, i) => (score - centres[i]) / scales[i]);
    return scaled.reduce((sum, score) => sum + Math.exp(sharpness * score), 0) > threshold;
  }

  // Return for each pixel, 28 rows of 28, the mean drop of the digit's probability when a patch over it is blanked, as in
  // mnist_hpo/serving/saliency.py. Other work may run between the rows of patches; returns null after `isStopped()`.
  async saliency(pixels, { digit, probabilities }, isStopped) {
    const side = Network.SIDE, { patch, stride } = this.#settings;
    const drops = new Float64Array(side * side), counts = new Float64Array(side * side);
    for (let top = 0; top <= side - patch; top += stride) {
      await new Promise((resolve) => setTimeout(resolve));
      if (isStopped()) return null;
      for (let left = 0; left <= side - patch; left += stride) {
        const covered = Array.from({ length: patch * patch }, (_, i) =>
          (top + Math.floor(i / patch)) * side + left + (i % patch));
        const occluded = pixels.slice();
        for (const at of covered) occluded[at] = 0;
        const drop = probabilities[digit] - Math.exp(this.#network.logProbabilities(occluded)[digit]);
        for (const at of covered) {
          drops[at] += drop;
          counts[at]++;
        }
      }
    }
    return rowsOf(drops.map((drop, i) => drop / Math.max(counts[i], 1)));
  }
}

function rowsOf(values) {
  return Array.from({ length: Network.SIDE }, (_, y) =>
    Array.from(values.subarray(y * Network.SIDE, (y + 1) * Network.SIDE)));
}
