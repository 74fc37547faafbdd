"""Exceptions of this package. The native part raises them too."""

from __future__ import annotations


class ForgeError(Exception):
    """The base of every error of this package.

    Raised itself when an argument cannot be used or a service cannot be reached.
    """


class EnvelopeError(ForgeError):
    """An envelope is invalid.

    >>> import forge_kernel
    >>> try:
    ...     forge_kernel.run({"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}})
    ... except forge_kernel.EnvelopeError as error:
    ...     error.errors
    [('/args', 'is missing: an object is required')]
    """

    errors: list[tuple[str, str]]
    """Every error: the JSON pointer of the value, empty for the whole document, and a message."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        self.errors = errors
        super().__init__("\n".join(f"{pointer or 'document'}: {message}" for pointer, message in errors))

    def __reduce__(self) -> tuple[type[EnvelopeError], tuple[list[tuple[str, str]]]]:
        return type(self), (self.errors,)


class JobError(ForgeError):
    """A job failed or was cancelled."""

    code: str
    """Why: a failure code of the contract, such as ``timeout``."""
    message: str
    """Explanation for people."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")

    def __reduce__(self) -> tuple[type[JobError], tuple[str, str]]:
        return type(self), (self.code, self.message)


class MismatchError(ForgeError):
    """Something that is stored differs from what it should be."""
