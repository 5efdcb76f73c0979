"""STAND-IN for the package of branch `image`; drop this commit at the merge."""

from mnist_hpo.spec.errors import UserError


class ImageError(UserError):
    """A picture that cannot be read, or in which nothing is written."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
