import geopandas
import numpy as np
import pytest
import shapely

from landfold.folds.assignment import fold_patches
from landfold.folds.lists import fold_of_zone, write_folds
from landfold.folds.merging import merge_overlapping_zones, written_zones
from landfold.folds.split import FoldError
from landfold.folds.zones import make_zones
from tests.factories import CRS_UTM33
from tests.folds.layouts import KINDS, ground, patches_at, zone_settings


def test_zones_with_patches_that_share_ground_are_united_through_others():
    zones = np.array(["b", "a", "c", "d", "e"], dtype=object)
    chain = shapely.box([0, 8, 16, 26, 60], 0, [10, 18, 26, 36, 70], 10)  # b-a-c overlap, c and d only touch
    assert merge_overlapping_zones(zones, chain) == {"a": "a+2", "b": "a+2", "c": "a+2", "d": "d", "e": "e"}
    assert merge_overlapping_zones(zones[::-1], chain[::-1]) == merge_overlapping_zones(zones, chain)


def test_joined_zones_lose_no_patch_to_shared_ground():
    patches = patches_at([95, 104, 250, 350, 450])
    none = np.zeros(5, dtype=bool)
    settings = {"block_size_m": 100, "assignment": "group"}
    found = {}
    for overlaps in ("buffer", "merge"):
        folding = fold_patches(patches, zone_settings(2, overlaps=overlaps, **settings), none)
        found[overlaps] = list(folding.table["zone"])
        lost = sum(int(split.buffer.sum()) for split in folding.spatial)
        assert lost == (2 if overlaps == "buffer" and folding.table["fold"][0] != folding.table["fold"][1] else 0)
    assert found["buffer"][:2] == ["E0N0", "E1N0"]
    assert found["merge"] == ["E0N0+1", "E0N0+1", "E2N0", "E3N0", "E4N0"]


def test_a_component_that_spans_everything_is_refused_with_the_mend():
    patches = patches_at(8.0 * np.arange(30))
    settings = zone_settings(2, overlaps="merge", block_size_m=50)
    with pytest.raises(FoldError, match=r"merge leaves 1 of 5 zones, too few for 2 folds: .*patches\.stride_px to"):
        fold_patches(patches, settings, np.zeros(30, dtype=bool))


def test_the_map_asks_the_united_zones_too():
    patches = patches_at([95, 104, 250, 350, 450])
    settings = zone_settings(2, overlaps="merge", block_size_m=100, assignment="group")
    folding = fold_patches(patches, settings, np.zeros(5, dtype=bool))
    rule = written_zones(settings, patches, folding.table["zone"])
    assert list(rule.at(np.array([1, 199, 299, 950.0]), np.zeros(4))) == ["E0N0+1", "E0N0+1", "E2N0", "E9N0"]
    assert folding.zones[0].set_index("zone").geometry["E0N0+1"].bounds == (0, 0, 200, 100)
    assert fold_of_zone(folding.table) == dict(zip(folding.table["zone"], folding.table["fold"], strict=True))


@pytest.mark.parametrize("overlaps", ["buffer", "merge"])
@pytest.mark.parametrize("kind", [*KINDS, "polygons"])
def test_the_map_has_the_zones_of_the_patches(tmp_path, kind, overlaps):
    patches = ground(2, count=40, side=900, size=4.0)
    stripes = [shapely.box(7e5 + 150 * i, 57e5, 7e5 + 150 * (i + 1), 59e5) for i in range(6)]
    areas = geopandas.GeoDataFrame({"zone": list("abcdef")}, geometry=stripes, crs=CRS_UTM33)
    own = {**KINDS, "polygons": {**KINDS["scene"], "file": "a.gpkg", "attribute": "zone"}}[kind]
    settings = zone_settings(2, kind=kind, overlaps=overlaps, assignment="group", **{"block_size_m": 150, **own})
    zones = make_zones(settings, patches, areas).of(patches)
    shapes, other = patches.geometry.to_numpy().copy(), np.flatnonzero(zones != zones[0])[0]
    shapes[0] = shapely.union(shapes[0], shapes[other])
    patches = patches.set_geometry(geopandas.GeoSeries(shapes, crs=CRS_UTM33))
    folding = fold_patches(patches, settings, np.zeros(40, dtype=bool), areas)
    united = min(zones[0], zones[other]) + "+1"
    assert list(folding.table["zone"]) == [
        united if overlaps == "merge" and zone in (zones[0], zones[other]) else zone for zone in zones
    ]
    write_folds(tmp_path, folding)
    written = geopandas.read_file(tmp_path / "zones.gpkg", layer="zones")
    rule = written_zones(settings, patches, folding.table["zone"], written)
    assert list(rule.at(patches["x"].to_numpy(), patches["y"].to_numpy())) == list(folding.table["zone"])
