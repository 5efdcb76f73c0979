// Before anything is painted: the theme that the reader chose here once, else the system's.
try {
  const chosen = localStorage.getItem("mnist-hpo-report-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* a browser that keeps nothing for files */ }
