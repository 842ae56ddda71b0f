"""The base of every error that a user can mend, and how it names many things."""

from collections.abc import Sequence


class LandfoldError(Exception):
    """A fault in data or settings.

    The message is all that the user sees: which file or setting, what was found,
    what was expected, and how to mend it.
    """


def first_ten(names: Sequence[object]) -> str:
    """Names for a message: enough to find the fault, not thousands of lines."""
    return ", ".join(str(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")
