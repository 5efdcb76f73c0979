"""Pages over studies, from what `analysis` makes of their records; nothing here writes to a record."""
