"""Tables, plots and pages over studies, read from the record; nothing here writes to it."""
