"""The exception for errors that the user can fix, and helpers for its messages."""

import reprlib
from typing import Any

_MAX_SHOWN_CHARS = 80
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _MAX_SHOWN_CHARS
_SHORT.maxlevel = 3


class UserError(Exception):
    """An error that the user can fix. The message names the place, the value and the fix.

    The command line prints the message, without a traceback, and exits with code 2. Control characters in it are
    escaped, so that a file or a name cannot send commands to the terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(printable, message.split("\n"))))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; some libraries add pages of text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable(text: str) -> str:
    """Return the text with unprintable characters escaped, as `repr` writes them."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shown(value: Any) -> str:
    """Return a value as messages quote it: its `repr`, shortened in the middle if it is long."""
    return _SHORT.repr(value)


def shortened(text: str, max_chars: int = _MAX_SHOWN_CHARS) -> str:
    """Return the text without quotes, cut off if it is long."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}… ({len(text):,} characters)"
