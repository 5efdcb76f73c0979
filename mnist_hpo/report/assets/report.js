"use strict";
// Draws the charts in the colours of the theme: first those in view, then the others.
(() => {
  const root = document.documentElement;
  const { trials, charts } = JSON.parse(document.getElementById("figures").textContent);
  const frames = [...document.querySelectorAll(".chart")];
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

  /** Returns a copy of a figure's JSON with each `var(--name)` replaced by the theme's colour. */
  function coloured(value, colours) {
    if (typeof value === "string") {
      return value.startsWith("var(") ? colours.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) {
      // Skip long arrays of numbers, which contain no colours; a colour scale's [0, "var(--paper)"] does.
      const plain = value.length > 2 && typeof value[0] === "number";
      return plain ? value.slice() : value.map((item) => coloured(item, colours));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, colours)]));
  }

  /** Returns the trace with the text of its trials for hover. */
  function withTrials({ trials: numbers, more, ...trace }) {
    if (!numbers) return trace;
    const customdata = numbers.map((number, i) => {
      if (number === null) return "";
      return more && more[i] ? `${trials[number]}<br>${more[i]}` : trials[number];
    });
    return { ...trace, customdata };
  }

  function layoutOf(layout, colours, isNarrow) {
    const colour = (name) => colours.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--grid"), zerolinecolor: colour("--grid"),
      automargin: true, fixedrange: isNarrow };
    const styled = coloured(layout, colours);
    for (const name of ["xaxis", "yaxis"]) styled[name] = { ...axis, ...styled[name] };
    return {
      ...styled,
      paper_bgcolor: colour("--paper"),
      plot_bgcolor: colour("--paper"),
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
      hoverlabel: { align: "left", bgcolor: colour("--page"), bordercolor: colour("--muted"),
        font: { color: colour("--ink"), size: 12 } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemsizing: "constant", ...styled.legend },
      margin: { l: isNarrow ? 44 : 64, r: isNarrow ? 12 : 32, t: 16, b: 44, ...styled.margin },
      hovermode: "closest",
      dragmode: isNarrow ? false : "zoom",
    };
  }

  const config = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };

  function draw(frame) {
    const { data, layout } = charts[Number(frame.dataset.chart)];
    const colours = getComputedStyle(root);
    const traces = coloured(data.map(withTrials), colours);
    const drawn = Plotly.react(frame, traces, layoutOf(layout, colours, innerWidth < 600), config);
    return drawn.then(() => { frame.dataset.drawn = isDark() ? "dark" : "light"; });
  }

  // Draw one chart after the other, so that the page can scroll in between.
  const waiting = new Set(frames);
  let busy = false;
  async function drawWaiting() {
    if (busy) return;
    busy = true;
    while (waiting.size) {
      const seen = [...waiting].find((candidate) => inView.has(candidate));
      if (!seen) performance.mark("view-drawn");
      const frame = seen || waiting.values().next().value;
      waiting.delete(frame);
      await draw(frame);
      await new Promise((resolve) => setTimeout(resolve));
    }
    busy = false;
    root.dataset.drawn = isDark() ? "dark" : "light";
    performance.mark("all-drawn");
  }

  const inView = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) inView[isIntersecting ? "add" : "delete"](target);
    drawWaiting();
  });
  frames.forEach((frame) => observer.observe(frame));

  function restyle() {
    delete root.dataset.drawn;
    frames.forEach((frame) => waiting.add(frame));
    drawWaiting();
  }
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("mnist-hpo-report-theme", root.dataset.theme); } catch { /* not stored */ }
    restyle();
  });
  // Printing needs all charts at once, in the width of the paper.
  addEventListener("beforeprint", () => {
    root.classList.add("on-paper");
    for (const frame of frames) {
      if (waiting.delete(frame)) draw(frame);
      else Plotly.Plots.resize(frame);
    }
  });
  addEventListener("afterprint", () => {
    root.classList.remove("on-paper");
    frames.forEach((frame) => Plotly.Plots.resize(frame));
  });
  systemDark.addEventListener("change", () => { if (!root.dataset.theme) restyle(); });
})();
