"use strict";

// Connects the parts of the page.

{
  const find = (id) => document.getElementById(id);
  const service = new Service();
  const answer = new Answer();
  const map = new SaliencyMap();
  const recognition = new Newest(recognise);
  const explanation = new Newest((signal) => ask("pixels,saliency", signal));
  const pad = new Pad(find("pad"), changed, ended);
  const pen = new KeyboardPen(find("pad"), pad, find("pen"), announce);
  let shown = null; // The prediction that the page shows.

  function changed() {
    explanation.stop();
    map.clear();
    find("hint").hidden = !pad.isEmpty;
    find("box").classList.add("hidden");
    if (pad.isEmpty) {
      recognition.stop();
      empty("");
    } else {
      setBusy(true);
      recognition.ask();
    }
  }

  function ended() {
    if (shown !== null && !recognition.isRunning) announce(Answer.inWords(shown));
  }

  async function recognise(signal) {
    try {
      await ask("pixels", signal);
    } finally {
      setBusy(recognition.isAsked);
    }
  }

  async function ask(include, signal) {
    try {
      const { predictions, model } = await service.predict(pad, include, signal);
      if (signal.aborted) return;
      show(predictions[0], model);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof RefusedError)) throw error;
      refused(error);
    }
  }

  function setBusy(isBusy) {
    find("answer").setAttribute("aria-busy", isBusy);
  }

  function show(prediction, model) {
    answer.show(prediction);
    shown = prediction;
    if (prediction.saliency) map.show(prediction.saliency);
    showBox(prediction.box);
    find("status").textContent = "";
    find("model").textContent = [model.study, model.kind, model.version && `version ${model.version}`]
      .filter(Boolean)
      .join(" · ");
    if (!pad.isDrawing) announce(Answer.inWords(prediction));
  }

  function showBox(box) {
    const place = pad.placeOf(box);
    find("box").classList.toggle("hidden", place === null);
    for (const [name, value] of Object.entries(place ?? {})) find("box").setAttribute(name, value);
  }

  function refused(error) {
    const needsToken = error.code === "unauthorized";
    if (needsToken) find("token").hidden = false;
    const message = !needsToken ? error.message : service.token ? "this token is wrong" : "the service asks for its token";
    empty(message[0].toUpperCase() + message.slice(1) + ".");
  }

  function empty(status) {
    answer.clear();
    shown = null;
    announce("");
    find("status").textContent = status;
  }

  function announce(text) {
    find("announcement").textContent = text;
  }

  function clear() {
    pen.lift();
    pad.clear();
  }

  function undo() {
    pen.lift();
    pad.undo();
  }

  find("clear").addEventListener("click", clear);
  find("undo").addEventListener("click", undo);
  find("explain").addEventListener("click", () => {
    if (pad.isEmpty) find("status").textContent = "Draw a digit first.";
    else explanation.ask();
  });

  document.addEventListener("keydown", (event) => {
    if (event.target === find("secret")) return;
    const isUndo = (event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z";
    if (isUndo) undo();
    else if (event.key === "Escape" || event.key === "Delete") clear();
    else return;
    event.preventDefault();
  });

  function take(files) {
    if (files.length === 0) return;
    pen.lift();
    setBusy(true);
    pad.show(files[0]);
  }

  find("file").addEventListener("change", ({ target }) => {
    take([...target.files]);
    target.value = ""; // So that the same file can be chosen again.
  });
  document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    find("paper").classList.add("target");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) find("paper").classList.remove("target");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    find("paper").classList.remove("target");
    take([...event.dataTransfer.files]);
  });

  // The page in a file has no form.
  find("token")?.addEventListener("submit", (event) => {
    event.preventDefault();
    service.token = find("secret").value;
    find("secret").value = "";
    find("token").hidden = true;
    find("status").textContent = "";
    if (!pad.isEmpty) recognition.ask();
  });
}
