"""Land-cover maps with honest accuracy from multi-band satellite scenes."""

__version__ = "0.1.0"
