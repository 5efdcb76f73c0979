"""HTML pages about studies, built from the tables and figures of `analysis`. Nothing here writes to a record."""
