import pytest

from tests.accuracy.known import mapped_classes, write_class_map


@pytest.fixture
def class_map(tmp_path):
    return write_class_map(tmp_path / "s_class.tif", mapped_classes())
