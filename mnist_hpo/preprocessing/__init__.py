"""STAND-IN for the package of branch `image`; drop this commit at the merge."""
