import pytest

from landfold.deploy.bundle import Bundle
from tests.served import make_bundle


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("served") / "landfold")


@pytest.fixture(scope="session")
def bundle(folder):
    return Bundle.load(folder)


@pytest.fixture(scope="session")
def pixel_bundle(tmp_path_factory):
    return Bundle.load(make_bundle(tmp_path_factory.mktemp("served pixels") / "landfold", kind="surroundings"))


@pytest.fixture(params=["bundle", "pixel_bundle"])
def either(request):
    """A model of patches, and one of pixels."""
    return request.getfixturevalue(request.param)
