import pytest

from landfold.deploy.bundle import Bundle
from tests.served import make_bundle


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("served") / "landfold")


@pytest.fixture(scope="session")
def bundle(folder):
    return Bundle.load(folder)
