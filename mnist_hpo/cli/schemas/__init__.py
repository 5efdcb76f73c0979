"""What the commands print with `--json`: one model per command, from which `docs/schemas/` is generated.

A field that is not in its model cannot be printed, so a schema always matches its command.
"""
