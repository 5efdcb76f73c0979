"""The report's charts: pure functions from a study to plotly figures as plain JSON."""
