"""What the tests of this folder share."""

import pytest
import torch

from tests.network.tiny import trained


@pytest.fixture(autouse=True)
def _restore_torch():
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def base():
    """The tiny problem trained with the settings as they are."""
    return trained()
