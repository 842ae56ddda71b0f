"""Errors of networks and trainings."""

from landfold.core.errors import LandfoldError


class ModelError(LandfoldError):
    """A network that cannot be built, weights that cannot be loaded or do not fit, or input that does not fit."""


class DatasetError(LandfoldError):
    """Patches that do not fit the normalized scenes, or do not fit into memory."""


class TrainingError(LandfoldError):
    """A training that cannot start or has diverged."""
