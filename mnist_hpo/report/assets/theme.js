// Runs before the first paint: sets the theme that the reader chose earlier, else the system's.
try {
  const chosen = localStorage.getItem("mnist-hpo-report-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* the browser stores nothing for files */ }
