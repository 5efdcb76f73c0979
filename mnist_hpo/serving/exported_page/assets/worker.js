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

  addEventListener("message", ({ data }) => {
    if (data.isStopped) stopped.add(data.id);
    else if (recogniser === null) recogniser = new Recogniser(data);
    else predict(data);
  });
}
