"""The base of every error that a user can mend."""


class LandfoldError(Exception):
    """A fault in data or settings.

    The message is all that the user sees: which file or setting, what was found,
    what was expected, and how to mend it.
    """
