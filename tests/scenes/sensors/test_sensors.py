import numpy as np
import pytest
import rasterio

import stages.ingest
from landfold.patches.labels import LabelSettings, read_labels
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import SceneError
from tests.factories import leftovers, make_grid, read_json, small_scene, tree, write_band, write_params
from tests.products import LANDSAT_NAME, SAFE_NAME, assert_fault, write_landsat, write_safe


def deliver(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("file", "scene", "native", "band"),
    [
        ("T33UUU_20170216T102101_B02.jp2", "T33UUU_20170216T102101", "B02", "B"),
        ("T33UUU_20170216T102101_B8A.jp2", "T33UUU_20170216T102101", "B8A", "N2"),
        ("T33UUU_20170216T102101_b8a.JP2", "T33UUU_20170216T102101", "B8A", "N2"),
        ("T33UUU_20170216T102101_B04_10m.jp2", "T33UUU_20170216T102101", "B04", "R"),
        ("T33UUU_20170216T102101_B8A_20m.tif", "T33UUU_20170216T102101", "B8A", "N2"),
        ("farm_N.tif", "farm", "N", "N"),
        ("farm_RE2.TIFF", "farm", "RE2", "RE2"),
        ("farm_B_S1.tif", "farm_B", "S1", "S1"),
        ("my farm, 2nd 'try' \"ü\"_ä_G.tif", "my farm, 2nd 'try' \"ü\"_ä", "G", "G"),
    ],
)
def test_a_file_name_tells_scene_and_band(tmp_path, file, scene, native, band):
    [found] = find_scenes(deliver(tmp_path, f"sub folder/{file}"))
    assert found.name == scene
    assert found.folder == tmp_path / "sub folder"
    assert list(found.bands) == [band]
    assert found.bands[band].native_name == native
    assert found.bands[band].path == tmp_path / "sub folder" / file
    assert found.bands[band].index == 1
    assert found.warnings == []


def test_all_thirteen_bands_of_sentinel2_are_known(tmp_path):
    names = [f"B{i:02}" for i in range(1, 13)] + ["B8A"]
    [found] = find_scenes(deliver(tmp_path, *[f"S_{name}.jp2" for name in names]))
    assert set(found.bands) == {"A", "B", "G", "R", "RE1", "RE2", "RE3", "N", "N2", "WV", "CIRRUS", "S1", "S2"}
    assert found.sensor == "sentinel2"


def test_standard_names_are_of_no_known_sensor(tmp_path):
    [found] = find_scenes(deliver(tmp_path, "farm_N.tif", "farm_R.tif"))
    assert found.sensor == "unknown"


def test_two_scenes_may_lie_in_one_folder_and_come_sorted(tmp_path):
    found = find_scenes(deliver(tmp_path, "b_B02.tif", "a_B02.tif", "a_B03.tif", "b_B04.tif"))
    assert [(scene.name, list(scene.bands)) for scene in found] == [("a", ["B", "G"]), ("b", ["B", "R"])]


@pytest.mark.parametrize("second", ["S_B02.tif", "S_B02_10m.jp2", "S_B.tif"])
def test_a_band_that_is_there_twice_is_refused_with_both_files(tmp_path, second):
    deliver(tmp_path, "S_B02.jp2", second)
    assert_fault(find_scenes(tmp_path), r"scene S: band B is in .*S_B.* and in .*S_B.*; keep one")


def test_a_scene_that_is_there_twice_is_refused_with_both_folders(tmp_path):
    deliver(tmp_path, "one/S_B02.jp2", "two/S_B03.jp2")
    with pytest.raises(SceneError, match=r"scene S: found in .*one and in .*two; a scene's name must be unique"):
        find_scenes(tmp_path)


def test_foreign_files_become_a_warning_and_hidden_files_do_not(tmp_path):
    deliver(tmp_path, "S_B02.jp2", "S_TCI.jp2", "readme.txt", "S_B99.jp2", ".DS_Store", "B02.jp2", ".x/T_B02.jp2")
    deliver(tmp_path, "S_B02.jp2.aux.xml", "S_B02.tif.ovr", "S_B02.tif.msk", "S_B02.jp2.dvc")
    [found] = find_scenes(tmp_path)
    assert list(found.bands) == ["B"]
    assert found.warnings == ["not understood, ignored: B02.jp2, S_B99.jp2, S_TCI.jp2, readme.txt"]


def test_foreign_files_are_told_once_and_not_all_of_many(tmp_path):
    deliver(tmp_path, "a_B02.tif", "b_B02.tif", *[f"{i:02}.txt" for i in range(12)])
    first, second = find_scenes(tmp_path)
    listed = ", ".join(f"{i:02}.txt" for i in range(10))
    assert (first.warnings, second.warnings) == ([f"not understood, ignored: {listed}, ..."], [])


def test_foreign_files_of_a_folder_without_scenes_are_told_by_the_scene_around_them_or_the_first(tmp_path):
    deliver(tmp_path, "readme.txt", "a/S_B02.tif", "b/T_B02.tif", "b/extra/deep/look.jpg", "c/notes.csv")
    first, second = find_scenes(tmp_path)
    assert first.warnings == ["not understood, ignored: c/notes.csv", "not understood, ignored: readme.txt"]
    assert second.warnings == ["not understood, ignored: b/extra/deep/look.jpg"]


@pytest.mark.parametrize("top", [[], ["T_B02.tif"]])
def test_a_folder_of_which_no_band_file_is_understood_does_not_vanish(tmp_path, top):
    deliver(tmp_path, "a/S_B02.jp2", "b/readme.txt", *top)
    grid = make_grid(12, 16)
    write_band(tmp_path / "b/S_B2.tif", grid, np.ones(grid.shape, "uint8"))
    with pytest.raises(
        SceneError, match=r"b: no file is understood \(there is S_B2\.tif\); files of one band are called"
    ):
        find_scenes(tmp_path)
    (tmp_path / "a/quick look").mkdir()
    (tmp_path / "b/S_B2.tif").rename(tmp_path / "a/quick look/S_B2.tif")
    assert "not understood, ignored: a/quick look/S_B2.tif" in find_scenes(tmp_path)[0].warnings


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("S_SCL.jp2", "scl"),
        ("S_SCL_20m.jp2", "scl"),
        ("S_QA_PIXEL.TIF", "qa_pixel"),
        ("S_FMASK.tif", "fmask"),
        ("S_Fmask.tif", "fmask"),
    ],
)
def test_masks_lie_beside_the_bands(tmp_path, file, kind):
    [found] = find_scenes(deliver(tmp_path, "S_B02.tif", file))
    assert [(mask.kind, mask.path, mask.index) for mask in found.masks] == [(kind, tmp_path / file, 1)]
    assert (list(found.bands), found.warnings) == (["B"], [])


def test_a_mask_belongs_to_the_scene_of_its_name_in_its_folder(tmp_path):
    deliver(tmp_path, "x/a_B02.tif", "x/b_B02.tif", "x/b_SCL.tif", "x/c_SCL.tif", "y/d_B02.tif", "y/a_FMASK.tif")
    found = {scene.name: [mask.path.name for mask in scene.masks] for scene in find_scenes(tmp_path)}
    assert found == {"a": [], "b": ["b_SCL.tif"], "d": []}
    warnings = [scene.warnings for scene in find_scenes(tmp_path)]
    assert warnings == [["not understood, ignored: c_SCL.tif"], [], ["not understood, ignored: a_FMASK.tif"]]


def test_a_mask_that_is_there_twice_is_refused(tmp_path):
    deliver(tmp_path, "S_B02.tif", "S_SCL_20m.jp2", "S_SCL_60m.jp2")
    assert_fault(find_scenes(tmp_path), r"scene S: mask SCL is in .*SCL_20m\.jp2 and in .*SCL_60m\.jp2; keep one")


@pytest.mark.parametrize(
    ("scene", "date"),
    [
        ("T33UUU_20170216T102101", "2017-02-16"),
        ("S2A_20240229", "2024-02-29"),
        ("S2A_20230229", None),
        ("S2A_99999999_20200101", "2020-01-01"),
        ("farm_201702161", None),
        ("LE70220491999322EDC01_stack", "1999-11-18"),
        ("LE70220491999999EDC01", None),
        ("farm", None),
    ],
)
def test_the_date_is_read_from_the_name_if_it_is_one(tmp_path, scene, date):
    [found] = find_scenes(deliver(tmp_path, f"{scene}_B02.tif"))
    assert found.acquired == date


@pytest.mark.parametrize("names", [[], ["readme.txt"]])
def test_a_folder_without_scenes_is_refused_with_an_example(tmp_path, names):
    deliver(tmp_path, *names)
    with pytest.raises(
        SceneError, match=r"no scene found.*; expected Sentinel-2 .* such as T33UUU_20170216T102101_B02\.jp2"
    ):
        find_scenes(tmp_path)


def test_an_absent_folder_is_refused(tmp_path):
    with pytest.raises(SceneError, match="nowhere: no scene found"):
        find_scenes(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("target", "message"), [("real", "a folder, of which DVC would miss changes"), ("gone", "nothing")]
)
def test_a_link_that_is_none_to_a_file_is_refused(tmp_path, target, message):
    deliver(tmp_path, "real/S_B02.tif", "scenes/T_B02.tif")
    (tmp_path / "scenes/one.tif").symlink_to(tmp_path / target)
    with pytest.raises(SceneError, match=rf"scenes/one\.tif: a link to {message}.*; put the folder itself there"):
        find_scenes(tmp_path / "scenes")


def test_a_link_to_a_file_is_that_file(tmp_path):
    deliver(tmp_path, "real/S_B02.tif")
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes/T_B03.tif").symlink_to(tmp_path / "real/S_B02.tif")
    assert [list(scene.bands) for scene in find_scenes(tmp_path / "scenes")] == [["G"]]


RAW = "data/raw/scenes"


def deliver_good_and_broken(folder):
    """A good scene among broken ones of every reader; the names of the broken."""
    small_scene(folder, "good")
    (write_safe(folder, files={"B02": (60,)}) / "MTD_MSIL2A.xml").write_text("<cut")
    write_landsat(folder / "landsat", ["SR_B2"], forms=())
    deliver(folder, "twice/T_B02.tif", "twice/T_B.tif")
    write_stack(folder / "tiles" / "nameless.tif", 3)
    (folder / "links.urls").write_text("ftp://example.org/x.tif\n")
    (folder / "archive.zip").write_bytes(b"no archive")
    return {SAFE_NAME, LANDSAT_NAME, "T", "nameless", "links", "archive"}


def write_stack(path, bands):
    grid = make_grid(12, 16)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": "uint16", "height": 12, "width": 16, "count": bands}
    with rasterio.open(path, "w", **profile, crs=grid.crs, transform=grid.transform) as dataset:
        dataset.write(np.ones((bands, 12, 16), "uint16"))


def test_broken_scenes_are_listed_beside_a_good_one_and_may_be_left_out(tmp_path, stage):
    broken = deliver_good_and_broken(tmp_path / RAW)
    write_params(tmp_path, ingest__on_refusal="skip")
    out = stage(stages.ingest)
    report = read_json(tmp_path / "data/scenes/report.json")
    assert set(report["refusals"]) == broken
    assert [entry["scene"] for entry in report["scenes"]] == ["good"]
    assert sorted(tree(tmp_path / "data/scenes")) == ["good.tif", "report.json"]
    for name in broken:
        assert f"ingest: left out {name}: {report['refusals'][name]}" in out


def test_a_broken_scene_ends_the_run_unless_it_may_be_left_out(tmp_path, stage):
    deliver_good_and_broken(tmp_path / RAW)
    write_params(tmp_path, ingest__on_refusal="error")
    message = stage(stages.ingest, refused=True)
    for part in ("no well-formed XML", "without LC08", "band B is in", "carry no names", "ftp:", "as a zip archive"):
        assert part in message
    assert not (tmp_path / "data/scenes").exists()
    assert leftovers(tmp_path) == []


def test_a_broken_tile_has_no_class_and_needs_none(tmp_path):
    for name in ("a", "b"):
        write_band(tmp_path / "scenes" / "River" / f"{name}.tif", make_grid(12, 16), np.ones((12, 16), "uint8"))
    (tmp_path / "scenes" / "River" / "b.tif").write_bytes(b"II*\0 and no more")
    scenes = find_scenes(tmp_path / "scenes", band_order=["R"])
    assert [scene.fault is None for scene in scenes] == [True, False]
    settings = LabelSettings(
        kind="table",
        unit="patch",
        attribute=None,
        layer=None,
        invalid=None,
        resampling=None,
        zone_attribute=None,
        classes={"water": ["w"], "land": ["l"]},
        exclude=[],
    )
    table = tmp_path / "labels" / "labels.csv"
    table.parent.mkdir()
    for line in ("", "River/b.tif,w\n", "b,w\n", "River/b,w\n"):
        table.write_text(f"file,class\nRiver/a.tif,w\n{line}")
        labels = read_labels(table.parent, settings, scenes=tmp_path / "scenes", find=lambda folder: scenes)
        assert labels.number_of["a"] == 1


def test_a_mask_file_of_a_name_that_is_set_is_its_scenes_and_no_scene(tmp_path):
    small_scene(tmp_path, "a")
    write_stack(tmp_path / "a" / "a_clouds.tif", 1)
    write_safe(tmp_path, files={"B02": (60,)})
    beside = tmp_path / f"{SAFE_NAME}_clouds.tif"
    write_stack(beside, 2)
    write_landsat(tmp_path / "landsat")
    write_stack(tmp_path / "landsat" / f"{LANDSAT_NAME}_clouds.tif", 1)
    write_stack(tmp_path / "tiles" / "tile.tif", 2)
    write_stack(tmp_path / "tiles" / "tile_clouds.tif", 3)
    deliver(tmp_path, "none/z_B02.tif")
    found = {s.name: s for s in find_scenes(tmp_path, band_order=["R", "N"], mask_file="{scene}_clouds.tif")}
    assert set(found) == {"a", SAFE_NAME, LANDSAT_NAME, "tile", "z"}
    own = {name: [(m.kind, m.path, m.index) for m in scene.masks if m.kind == "file"] for name, scene in found.items()}
    assert own == {
        "a": [("file", tmp_path / "a" / "a_clouds.tif", 1)],
        SAFE_NAME: [("file", beside, 1)],
        LANDSAT_NAME: [("file", tmp_path / "landsat" / f"{LANDSAT_NAME}_clouds.tif", 1)],
        "tile": [("file", tmp_path / "tiles" / "tile_clouds.tif", 1)],
        "z": [],
    }
    assert [mask.kind for mask in found[LANDSAT_NAME].masks] == ["qa_pixel", "file"]
    assert [(scene.fault, scene.warnings) for scene in found.values()] == [(None, [])] * 5
    without = {scene.name: scene for scene in find_scenes(tmp_path, band_order=["R", "N"])}
    assert without["tile_clouds"].fault, "a scene of three bands, if nothing says that it is a mask"


def test_a_mask_file_belongs_to_the_scene_of_its_name_in_its_folder_by_case(tmp_path):
    deliver(tmp_path, "x/a_B02.tif", "x/A_clouds.tif", "x/b_clouds.tif", "y/a_clouds.tif", "x/a_CLOUDS.tif")
    deliver(tmp_path, "y/z_B02.tif")
    scene, other = find_scenes(tmp_path, mask_file="{scene}_clouds.tif")
    assert (scene.masks, other.masks) == ((), ())
    assert scene.warnings == ["not understood, ignored: A_clouds.tif, a_CLOUDS.tif, b_clouds.tif"]
    assert other.warnings == ["not understood, ignored: a_clouds.tif"]


def test_a_mask_file_in_and_beside_a_product_is_a_fault(tmp_path):
    root = write_safe(tmp_path, files={"B02": (60,)})
    for folder in (tmp_path, root):
        write_stack(folder / f"{SAFE_NAME}_clouds.tif", 1)
    found = find_scenes(tmp_path, mask_file="{scene}_clouds.tif")
    assert_fault(found, r"mask FILE is in .*\.SAFE/.*_clouds\.tif and in .*_clouds\.tif; keep one", name=SAFE_NAME)


@pytest.mark.parametrize("pattern", ["clouds.tif", "{scene}", "{scene}/clouds.tif", "{scene}_{scene}.tif", ""])
def test_a_pattern_of_mask_files_needs_the_scenes_name(tmp_path, pattern):
    deliver(tmp_path, "a_B02.tif")
    with pytest.raises(
        SceneError, match=r"ingest\.mask_file: '.*' must be the name of a file.*'\{scene\}_clouds\.tif'"
    ):
        find_scenes(tmp_path, mask_file=pattern)
