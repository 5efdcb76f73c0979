"""One module per model, named as in study files. It exports `MODEL`; no other file needs to change to add a model."""
