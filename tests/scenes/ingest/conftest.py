import pytest

from landfold.geo.grid import Grid


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 64 px instead of 512, so that small scenes have several."""
    monkeypatch.setattr(Grid.blocks, "__defaults__", (64,))
