"""The base of every error that a user can repair, and what its messages have in common."""

import difflib
from collections.abc import Iterable, Sequence


class LandfoldError(Exception):
    """A fault in data or settings.

    The message is all that the user sees: which file or setting, what is there, what is expected, and how to
    repair it.
    """


def first_ten(names: Sequence[object]) -> str:
    """Names for a message, such as ``a, b, c``; of more than ten the first ten and ``...``."""
    return ", ".join(str(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name that is most like it, whatever its case.

    Returns:
        Such as `` (did you mean 'zones'?)`` with its leading space; empty if no known name is like it.
    """
    by_key = {text.casefold(): text for text in known}
    close = difflib.get_close_matches(name.casefold(), by_key, n=1)
    return f" (did you mean '{by_key[close[0]]}'?)" if close else ""
