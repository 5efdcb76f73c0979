"use strict";

// The worker of the page, so that drawing goes on while it computes. It takes the model first, then
// {id, rgba, width, height, isExplained}, and answers {id, prediction}. {id, isStopped: true} stops an explanation.

{
  let recogniser = null;
  const stopped = new Set();

  async function predict({ id, rgba, width, height, isExplained }) {
    const [found] = MnistPreprocessing.findDigits(rgba, width, height);
    // Where nothing is written, a blank image is answered with doubt.
    const { pixels, box } = found ?? { pixels: new Uint8Array(Network.SIDE ** 2), box: [0, 0, 0, 0] };
    const prediction = { ...recogniser.answer(pixels), pixels: rowsOf(pixels), box };
    if (isExplained) {
      prediction.saliency = await recogniser.saliency(pixels, prediction, () => stopped.has(id));
    }
    if (!stopped.delete(id)) postMessage({ id, prediction });
  }

  // Read a drawing a few times, so that the browser has compiled the scripts when the first one is to be answered.
  function warmUp() {
    const side = 280, rgba = new Uint8ClampedArray(4 * side * side).fill(255);
    for (let y = 60; y < 220; y++) rgba.fill(0, 4 * (y * side + 130), 4 * (y * side + 150));
    for (let i = 0; i < 8; i++) recogniser.answer(MnistPreprocessing.findDigits(rgba, side, side)[0].pixels);
  }

  addEventListener("message", ({ data }) => {
    if (data.isStopped) stopped.add(data.id);
    else if (recogniser !== null) predict(data);
    else {
      recogniser = new Recogniser(data);
      warmUp();
    }
  });
}
