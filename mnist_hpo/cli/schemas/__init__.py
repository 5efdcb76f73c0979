"""What the verbs print with `--json`: one model a verb, from which `docs/schemas/` is written.

A field that is not named in its model cannot be printed, so a schema is never behind its verb.
"""
