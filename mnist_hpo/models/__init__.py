"""One file for each model, whose name studies use: it exports `MODEL`, and nothing else need know of it."""
