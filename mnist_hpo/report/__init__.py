"""A study as one page that a person can send: read-only, from the record to self-contained HTML."""
