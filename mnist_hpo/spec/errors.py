"""What can go wrong in a way that the user can put right."""

import reprlib
from typing import Any

_MAX_SHOWN_CHARS = 80
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _MAX_SHOWN_CHARS
_SHORT.maxlevel = 3


class UserError(Exception):
    """A mistake or a lack outside the program; the message names the place, the value and the way out.

    The command line prints the message, without a traceback, and exits with code 2. Control characters in it are
    escaped, so that a file or a name cannot send commands to the terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__("\n".join(map(printable, message.split("\n"))))


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some libraries add."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable(text: str) -> str:
    """Text with what is not printable escaped, as `repr` writes it."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shown(value: Any) -> str:
    """A value as a message quotes it: its `repr`, shortened in the middle where it is long."""
    return _SHORT.repr(value)


def shortened(text: str, max_chars: int = _MAX_SHOWN_CHARS) -> str:
    """Text without quotes, cut where it is long."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}… ({len(text):,} characters)"
