import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.windows import Window

from landfold.core.settings import SettingsError, validate
from landfold.geo.bands import Radiometry
from landfold.geo.raster import Raster
from landfold.scenes.normalize import (
    ChannelStatistics,
    SceneStatistics,
    StatisticsError,
    float_percentiles,
    from_sortable,
    percentile_of_counts,
    scene_statistics,
    sortable,
    write_normalized,
)
from landfold.scenes.settings import NormalizeSettings
from tests.factories import leftovers, make_grid, write_raster

EXAMPLES = hypothesis_settings(max_examples=80, deadline=None)


def normalize(**changes):
    values = {"low_percentile": 2, "high_percentile": 98, "min_valid_px": 100} | changes
    return validate(values, NormalizeSettings, where="normalize")


def whole(source):
    return Window(0, 0, source.grid.width, source.grid.height)


@given(arrays(np.uint16, st.integers(1, 300), elements=st.integers(0, 65535)), st.floats(0, 100))
@EXAMPLES
def test_percentiles_of_integers_are_numpys(values, percentile):
    counts = np.bincount(values, minlength=1 << 16)
    assert percentile_of_counts(counts, percentile) == np.percentile(values, percentile)


@given(arrays(np.uint16, st.integers(1, 40), elements=st.integers(7, 9)), st.sampled_from([0, 2, 25, 50, 98, 100]))
@EXAMPLES
def test_percentiles_of_many_equal_integers_are_numpys(values, percentile):
    counts = np.bincount(values, minlength=1 << 16)
    assert percentile_of_counts(counts, percentile) == np.percentile(values, percentile)


FLOATS = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.25, float(np.float32(1e-45)), float(np.float32(-3.4e38))]),
)


@given(arrays(np.float32, st.integers(1, 200), elements=FLOATS), st.floats(0, 100), st.integers(1, 5))
@EXAMPLES
def test_percentiles_of_floats_are_numpys_in_double_precision(values, percentile, parts):
    (found,), count = float_percentiles(lambda: np.array_split(values, parts), [percentile])
    valid = values[~np.isnan(values)].astype(np.float64)
    assert count == len(valid)
    if len(valid):
        assert found == np.percentile(valid, percentile)
    else:
        assert np.isnan(found)


def test_interpolation_agrees_to_the_last_digit():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 60_000, 1003).astype(np.uint16)
    counts = np.bincount(values, minlength=1 << 16)
    for percentile in rng.uniform(0, 100, 500):
        assert percentile_of_counts(counts, percentile) == np.percentile(values, percentile)
    apart = (rng.normal(size=40) * 10.0 ** rng.integers(-6, 7, 40)).astype(np.float32)  # rounding shows between these
    wanted = rng.uniform(0, 100, 2000)
    found, _ = float_percentiles(lambda: [apart], wanted)
    assert found == list(np.percentile(apart.astype(np.float64), wanted))


def test_several_percentiles_of_many_floats_at_once():
    rng = np.random.default_rng(0)
    values = rng.normal(0.2, 0.1, 200_001).astype(np.float32)
    wanted = [0, 1e-3, 2, 33.3, 50, 98, 100, *rng.uniform(0, 100, 50)]
    found, _ = float_percentiles(lambda: np.array_split(values, 7), wanted)
    assert found == list(np.percentile(values.astype(np.float64), wanted))


@given(arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False)))
@EXAMPLES
def test_sortable_keys_have_the_order_of_the_floats_and_lead_back(values):
    keys = sortable(values)
    assert keys.dtype == np.uint32
    ordered = values[np.argsort(keys, kind="stable")]
    assert (ordered[:-1] <= ordered[1:]).all()
    assert from_sortable(keys).tobytes() == values.tobytes()


@pytest.fixture
def scene(tmp_path):
    """Two integer bands and two indices, several blocks, extreme numbers under the mask."""
    rng = np.random.default_rng(3)
    shape = (530, 540)
    valid = np.ones(shape, dtype=bool)
    valid[:50, :60] = False
    red, near = (rng.integers(low, low + 2000, shape).astype(np.uint16) for low in (1100, 3000))
    red[~valid], near[~valid] = 65535, 0
    ndvi, flat = rng.normal(0.3, 0.2, shape).astype(np.float32), np.full(shape, 0.5, np.float32)
    ndvi[~valid] = np.nan
    ndvi[100:110] = np.nan
    bands = write_raster(tmp_path / "s.tif", {"R": red, "N": near}, valid=valid, radiometry=Radiometry(0.0001, -0.1))
    indices = write_raster(tmp_path / "i.tif", {"NDVI": ndvi, "FLAT": flat}, nodata=np.nan)
    with Raster.open(bands) as first, Raster.open(indices) as second:
        yield first, second


def test_a_scenes_statistics_are_over_its_valid_pixels(scene):
    bands, indices = scene
    found = scene_statistics("s", bands, indices, normalize())
    valid = bands.read_mask(whole(bands))
    assert list(found.channels) == ["R", "N", "NDVI", "FLAT"]
    for name, stored in zip(("R", "N"), bands.read_raw(whole(bands)), strict=True):
        p2, p98 = np.percentile(stored[valid], [2, 98])
        assert found.channels[name] == ChannelStatistics(p2 * 0.0001 - 0.1, p98 * 0.0001 - 0.1, int(valid.sum()))
    ndvi = indices.read_raw(whole(indices))[0]
    ndvi = ndvi[~np.isnan(ndvi)].astype(np.float64)
    assert found.channels["NDVI"] == ChannelStatistics(*np.percentile(ndvi, [2, 98]), len(ndvi))


def test_float_bands_are_taken_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    values, valid = rng.random((30, 40), dtype=np.float32), np.ones((30, 40), dtype=bool)
    valid[:5, :5] = False
    values[~valid] = 1e6
    with Raster.open(write_raster(tmp_path / "s.tif", {"R": values}, valid=valid)) as source:
        found = scene_statistics("s", source, None, normalize())
    p2, p98 = np.percentile(values[valid].astype(np.float64), [2, 98])
    assert found.channels["R"] == ChannelStatistics(p2, p98, 1175)


@pytest.mark.parametrize("change", [{"low_percentile": 5}, {"high_percentile": 90}])
def test_the_percentiles_change_the_statistics(scene, change):
    bands, indices = scene
    before, after = (scene_statistics("s", bands, indices, s) for s in (normalize(), normalize(**change)))
    assert before.channels["R"] != after.channels["R"]
    assert before.channels["NDVI"] != after.channels["NDVI"]


def test_no_read_is_larger_than_a_window(scene, monkeypatch):
    bands, indices = scene
    sizes = []
    read = Raster.read_raw
    monkeypatch.setattr(
        Raster,
        "read_raw",
        lambda self, window, names=None: sizes.append(window.width * window.height) or read(self, window, names),
    )
    scene_statistics("s", bands, indices, normalize())
    assert max(sizes) <= 512 * 512 < bands.grid.width * bands.grid.height
    integer_blocks, float_blocks = 4, 4 * 2 * 2  # one pass; two passes over each of two channels
    assert len(sizes) == integer_blocks + float_blocks


def test_a_channel_with_too_few_valid_pixels_is_refused(scene):
    bands, indices = scene
    message = r"scene s: channel NDVI has \d+ valid pixels, normalize\.min_valid_px asks for 283000"
    with pytest.raises(StatisticsError, match=message):
        scene_statistics("s", bands, indices, normalize(min_valid_px=283_000))


def test_a_scene_without_valid_pixels_is_refused(tmp_path):
    values, valid = np.ones((30, 40), np.uint16), np.zeros((30, 40), dtype=bool)
    nothing = np.full((30, 40), np.nan, np.float32)
    one, two = tmp_path / "s.tif", tmp_path / "i.tif"
    write_raster(one, {"R": values}, valid=valid)
    write_raster(two, {"NDVI": nothing}, nodata=np.nan)
    with Raster.open(one) as bands, pytest.raises(StatisticsError, match="channel R has 0 valid pixels"):
        scene_statistics("s", bands, None, normalize(min_valid_px=1))
    with Raster.open(two) as indices, pytest.raises(StatisticsError, match="channel NDVI has 0 valid pixels"):
        scene_statistics("s", indices, None, normalize(min_valid_px=1))


def test_signed_integers_are_exact_too(tmp_path):
    values = np.random.default_rng(3).integers(-32768, 32768, (30, 40)).astype(np.int16)
    valid = np.arange(40) > 4 * np.ones((30, 1))
    for mask in (valid, np.ones_like(valid)):
        path = write_raster(tmp_path / "s.tif", {"R": values}, valid=mask)
        with Raster.open(path) as bands:
            found = scene_statistics("s", bands, None, normalize(min_valid_px=1)).channels["R"]
        assert (found.low, found.high) == tuple(np.percentile(values[mask], (2, 98)))


def test_wide_integers_are_refused(tmp_path):
    path = write_raster(tmp_path / "s.tif", {"R": np.ones((30, 40), np.int32)})
    with (
        Raster.open(path) as bands,
        pytest.raises(StatisticsError, match=r"int32 data; expected uint8, uint16, int16 or"),
    ):
        scene_statistics("s", bands, None, normalize())


def statistics(**channels):
    return SceneStatistics("s", 2.0, 98.0, {name: ChannelStatistics(*v) for name, v in channels.items()})


def test_apply_scales_clips_and_puts_zero_for_nan_in_its_own_order():
    found = statistics(R=(0.1, 0.3, 9), N=(-1.0, 1.0, 9)).apply(
        {
            "N": np.array([[0.0, 0.5, 3.0, np.nan]], np.float32),
            "R": np.array([[0.1, 0.2, 0.3, 0.0]], np.float32),
        }
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[[0, 0.5, 1, 0]], [[0.5, 0.75, 1, 0]]], atol=1e-6)


@given(
    arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(-1e3, 1e3),
    st.floats(-1e3, 1e3),
)
@EXAMPLES
def test_applied_values_are_always_between_zero_and_one(values, low, high):
    found = statistics(R=(low, high, 9)).apply({"R": values})
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    order = np.argsort(values, axis=None)
    assert (np.diff(found.ravel()[order]) >= 0).all()


def test_a_constant_channel_is_zero():
    assert (statistics(R=(0.2, 0.2, 9)).apply({"R": np.full((3, 4), 0.2, np.float32)}) == 0).all()


@pytest.mark.parametrize("names", [["R"], ["R", "N", "B"], ["R", "n"]])
def test_other_channels_than_the_statistics_are_refused(names):
    with pytest.raises(StatisticsError, match="scene s: statistics are for R, N, got R"):
        statistics(R=(0, 1, 9), N=(0, 1, 9)).apply({name: np.zeros((2, 2)) for name in names})


def test_saved_statistics_load_as_they_were(tmp_path, scene):
    found = scene_statistics("s", *scene, normalize())
    found.save(tmp_path / "s.json")
    loaded = SceneStatistics.load(tmp_path / "s.json")
    assert loaded == found
    assert list(loaded.channels) == ["R", "N", "NDVI", "FLAT"]
    assert json.loads((tmp_path / "s.json").read_text())["order"] == ["R", "N", "NDVI", "FLAT"]


def test_the_normalized_raster_is_the_applied_statistics(tmp_path, scene):
    bands, indices = scene
    found, told = scene_statistics("s", bands, indices, normalize()), []
    write_normalized(bands, indices, found, tmp_path / "n.tif", progress=told.append)
    with Raster.open(tmp_path / "n.tif") as normalized:
        window = whole(normalized)
        values, valid = normalized.read_raw(window), normalized.read_mask(window)
        assert normalized.names == ("R", "N", "NDVI", "FLAT")
        assert normalized.grid == bands.grid == make_grid(530, 540)
    channels = dict(zip("RN", bands.read_reflectance(window), strict=True)) | dict(
        zip(indices.names, indices.read_reflectance(window), strict=True)
    )
    np.testing.assert_array_equal(values, found.apply(channels))
    np.testing.assert_array_equal(valid, bands.read_mask(window))
    assert (values[:2, ~valid] == 0).all()
    assert (values[2, 100:110] == 0).all()
    assert (values[3] == 0).all()
    for channel in values[:3]:
        assert (channel[valid] == 0).mean() == pytest.approx(0.02, abs=0.02)
        assert (channel[valid] == 1).mean() == pytest.approx(0.02, abs=0.002)
    assert told[-1] == 1.0
    assert leftovers(tmp_path) == []


def test_the_percentiles_must_be_in_order():
    with pytest.raises(SettingsError, match="low_percentile must be below high_percentile"):
        normalize(low_percentile=98, high_percentile=2)
