"""Tables and plots over studies, read from the storage; nothing here writes to it."""
