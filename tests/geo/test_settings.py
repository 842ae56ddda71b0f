import pytest

from landfold.core.settings import SettingsError, validate
from landfold.geo.settings import ProjectSettings


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3035"])
def test_a_metric_crs_is_taken(crs):
    found = validate({"name": "a", "crs": crs}, ProjectSettings, where="project")
    assert ":".join(found.metric_crs.to_authority()) == crs


@pytest.mark.parametrize(
    ("crs", "message"),
    [
        ("EPSG:4326", "project.crs: found 'EPSG:4326': .*metres"),
        ("EPSG:2263", "project.crs: found 'EPSG:2263': .*metres"),  # US survey feet
        ("UTM 33", "project.crs: found 'UTM 33': not a CRS that PROJ knows"),
    ],
)
def test_a_crs_that_is_not_metric_is_refused(crs, message):
    with pytest.raises(SettingsError, match=message):
        validate({"name": "a", "crs": crs}, ProjectSettings, where="project")
