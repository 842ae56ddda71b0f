"""Section ``card`` of params.yaml."""

from pydantic import Field

from landfold.core.settings import Settings


class CardSettings(Settings):
    """Section ``card`` of params.yaml."""

    licence: str = Field(min_length=1)
    """licence and attribution of the data, as its owners ask for it"""
    limits: list[str]
    """what else a user of the model must know, a sentence each; [] for nothing"""
