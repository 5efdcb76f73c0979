"""What can go wrong in a way that the user can put right."""


class UserError(Exception):
    """A mistake or a lack outside the program; the message names the place, the value and the way out.

    The command line prints the message, without a traceback, and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that some libraries add."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
