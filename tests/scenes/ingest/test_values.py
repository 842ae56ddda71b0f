"""Fill that no file declares, constant bands, and the numbers of the report."""

import numpy as np
import pytest

from landfold.scenes.sensors.scene_files import BandFile, SceneError
from tests.factories import centres, make_grid
from tests.scenes.ingest.deliveries import ingest, ramp, refused, scene_of, write_stack

BANDS = ["B", "G", "R"]


def stack(tmp_path, fill, *, dtype="uint8", share=0.3, bands=3, **options):
    """Bands that differ, but for a strip at the left that holds ``fill`` in all of them."""
    grid = make_grid(30, 40)
    base = ramp(*centres(grid)) / 20
    layers = [(base + 7 * i).astype(dtype) for i in range(bands)]
    for layer in layers:
        layer[:, : round(40 * share)] = fill
    path = write_stack(tmp_path / "raw" / "s.tif", grid, layers, photometric="MINISBLACK", **options)
    return scene_of(*(BandFile(name, str(i), path, i) for i, name in enumerate(BANDS[:bands], start=1)))


@pytest.mark.parametrize(
    ("dtype", "fill"), [("uint8", 255), ("uint16", 65535), ("float32", -9999), ("int16", -32768), ("float32", 1e20)]
)
def test_fill_that_is_not_declared_is_asked_for(tmp_path, dtype, fill):
    scene = stack(tmp_path, fill, dtype=dtype)
    message = (
        rf"30\.0% of the valid pixels hold {fill:g} in all bands.*rio edit-info --nodata.* set ingest\.nodata: null"
    )
    refused(tmp_path, SceneError, message.replace("+", r"\+"), scene, bands=BANDS)
    report, _, valid, _ = ingest(tmp_path, scene, bands=BANDS, nodata=None)
    assert valid.all()
    assert "B, G, R: more than 5% of the valid pixels hold the least or the largest number" in report["warnings"][0]
    assert {entry["suspected_fill"] for entry in report["values"].values()} == {True}
    if abs(fill) < 1e10:
        report, _, valid, _ = ingest(tmp_path, scene, bands=BANDS, nodata=fill)
        assert (~valid).sum() == report["nodata_px"]["nodata"] == 30 * 12


def test_zero_in_floats_is_nodata_where_the_settings_say_so(tmp_path):
    report, _, valid, _ = ingest(tmp_path, stack(tmp_path, 0, dtype="float32"), bands=BANDS)
    assert (~valid).sum() == 30 * 12
    assert "no nodata value is declared in 3 of 3 band files; DN 0 is taken" in report["warnings"][0]


def test_fill_beside_a_declared_nodata_is_asked_for(tmp_path):
    message = r"hold 255 in all bands.*declares it as nodata; declare it in the files"
    refused(tmp_path, SceneError, message, stack(tmp_path, 255, nodata=0), bands=BANDS)


@pytest.mark.parametrize(("share", "fill"), [(0, 0), (0.3, 65)])
def test_numbers_amid_the_others_are_no_fill(tmp_path, share, fill):
    """Grey ground has one number in all bands as well."""
    assert ingest(tmp_path, stack(tmp_path, fill, share=share), bands=BANDS)[2].all()


def test_one_band_is_warned_of_alone(tmp_path):
    report, _, valid, _ = ingest(tmp_path, stack(tmp_path, 255, bands=1), bands=["B"])
    assert valid.all()
    assert report["warnings"][1].startswith("B: more than 5% of the valid pixels")
    entry = report["values"]["B"]
    assert (entry["commonest"], entry["commonest_share"], entry["constant"]) == (255, 0.3, False)
    assert entry["p98"] == pytest.approx(255 * 1e-4)


def test_a_constant_band_is_told(tmp_path):
    grid = make_grid(30, 40)
    layers = [ramp(*centres(grid)).astype(np.uint16), np.full(grid.shape, 5, np.uint16)]
    path = write_stack(tmp_path / "raw" / "s.tif", grid, layers, nodata=0)
    scene = scene_of(BandFile("B", "1", path, 1), BandFile("G", "2", path, 2))
    report = ingest(tmp_path, scene, bands=["B", "G"])[0]
    assert report["warnings"] == ["G: nearly all valid pixels hold one number; is the band empty?"]
    assert [report["values"][name]["constant"] for name in ("B", "G")] == [False, True]
    numbers = layers[0] * 1e-4
    assert report["values"]["B"]["p2"] == pytest.approx(np.percentile(numbers, 2), rel=1e-5)
