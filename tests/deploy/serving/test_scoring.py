"""A request is answered as `landfold predict` maps the scene's file, and one that cannot be answered is refused."""

import dataclasses
from contextlib import nullcontext

import numpy as np
import pytest
import rasterio

from landfold.deploy.bundle import BundleError
from landfold.deploy.predict import predict_scenes
from landfold.deploy.scenejob import PredictOptions
from landfold.deploy.serving import LIMITS, ServingLimits
from landfold.deploy.serving.scoring import RequestError, answer
from landfold.geo.raster import Raster
from landfold.maps.classmap import NO_CLASS
from landfold.maps.files import STEPS
from landfold.maps.inference import map_grid, predict_scene
from landfold.scenes.indices import write_indices
from landfold.scenes.normalize import ChannelStatistics, SceneStatistics, normalize_scene
from landfold.scenes.settings import IndexSettings
from tests.factories import small_scene, write_raster
from tests.served import BANDS, CHANNELS, CLASSES, INDICES, SIZE_PX

HEIGHT, WIDTH = 50, 61


def ground(height=HEIGHT, width=WIDTH, seed=0):
    """(band, y, x) reflectance that varies in every direction, with a corner of no data and a hole in one band."""
    random = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    smooth = np.stack([0.1 + 0.05 * i + 0.002 * rows + 0.001 * (i + 1) * columns for i in range(len(BANDS))])
    values = (smooth + random.normal(0, 0.01, smooth.shape)).astype(np.float32)
    values[:, :9, :11] = np.nan
    values[2, 30:33, 40:45] = np.nan
    return values


def windows_of(scene, count=5):
    """Windows of the scene's lower right, where there is data."""
    return np.stack([scene[:, 20 + i : 20 + i + SIZE_PX, 15 + 3 * i : 15 + 3 * i + SIZE_PX] for i in range(count)])


def through_files(bundle, scene, folder):
    """What the stages and slide give for a scene: its statistics, windows' probabilities and the cells' means."""
    valid = np.isfinite(scene).all(axis=0)
    path = write_raster(folder / "scene.tif", dict(zip(BANDS, np.nan_to_num(scene), strict=True)), valid=valid)
    write_indices(path, IndexSettings(names=INDICES), folder / "indices.tif")
    card = bundle.card
    normalize_scene([path, folder / "indices.tif"], card.normalize, folder / "s.json", folder / "normalized.tif")
    with Raster.open(folder / "normalized.tif") as raster:
        cells = np.zeros((*map_grid(raster.grid, card.export.stride_px).shape, len(CLASSES)), dtype=np.float32)
        for strip in predict_scene(raster, bundle.models, card.export):
            mean = card.calibration.scale(strip.probabilities.mean(axis=0))
            cells[strip.window.toslices()] = np.where(strip.valid[..., None] >= card.export.min_valid, mean, 0)
        pixels = raster.read_raw(raster.grid.whole)
    return SceneStatistics.load(folder / "s.json"), pixels, cells


def params_of(statistics):
    return {end: [getattr(statistics.channels[name], end) for name in CHANNELS] for end in ("low", "high")}


def test_a_scene_is_answered_as_the_stages_map_it(bundle, tmp_path):
    scene = ground()
    statistics, pixels, cells = through_files(bundle, scene, tmp_path)
    assert cells.shape == (13, 16, 3)
    # no data: 2 x 3 cells of the corner of 9 x 11 px, and the 13 of the last column, of which 1 px in 4 is in the scene
    assert (cells.sum(axis=2) == 0).sum() == 19
    found = answer(bundle, scene[None], {"mode": "scene"}, LIMITS)
    np.testing.assert_array_equal(found[0], cells)
    given = answer(bundle, scene[None], {"mode": "scene"} | params_of(statistics), LIMITS)
    np.testing.assert_array_equal(given[0], cells)
    windows = windows_of(scene)
    found = answer(bundle, windows, params_of(statistics), LIMITS)
    np.testing.assert_array_equal(found, bundle.probabilities(windows_of(pixels)))


def test_pixels_are_answered_as_the_stages_map_them(pixel_bundle, tmp_path):
    """A scene of 100 x 90 px; windows of 68 px, whose 64 central pixels are told, with nodata in and around them."""
    scene = ground(100, 90)
    scene[:, 60:70, 50:] = np.nan
    statistics, _, pixels = through_files(pixel_bundle, scene, tmp_path)
    assert pixels.shape == (100, 90, 3)
    nodata = np.isnan(scene).any(axis=0)
    np.testing.assert_array_equal(pixels.sum(axis=2) == 0, nodata)
    np.testing.assert_array_equal(answer(pixel_bundle, scene[None], {"mode": "scene"}, LIMITS)[0], pixels)
    params = params_of(statistics)
    part = answer(pixel_bundle, scene[None, :, 10:40, 20:61], {"mode": "scene"} | params, LIMITS)[0]
    np.testing.assert_array_equal(part[2:-2, 2:-2], pixels[12:38, 22:59])
    places = [(0, 0), (7, 15), (32, 22)]
    windows = np.stack([scene[:, y : y + 68, x : x + 68] for y, x in places])
    found = answer(pixel_bundle, windows, params, LIMITS)
    assert found.shape == (3, 64, 64, 3)
    for window, (y, x) in zip(found, places, strict=True):
        np.testing.assert_array_equal(window, pixels[y + 2 : y + 66, x + 2 : x + 66])


PIXELS = np.full((2, len(BANDS), 68, 68), 0.2, dtype=np.float32)


@pytest.mark.parametrize(
    ("reflectance", "params", "limits", "message"),
    [
        (
            PIXELS[..., :8, :8],
            {},
            {},
            "windows of 8 x 8 px; the model expects 68 x 68, of which it tells the central 64",
        ),
        (PIXELS, {}, {"max_windows": 1}, "2 windows; a request may have 1: send several requests"),
        (PIXELS, {}, {"max_pixels": 8191}, "8192 pixels; a request may have 8191: send several requests"),
        (
            PIXELS,
            {"mode": "scene"},
            {"max_pixels": 9247},
            "9248 pixels; a request may have 9247: run `landfold predict`",
        ),
    ],
)
def test_what_is_too_large_is_refused_before_it_is_predicted(pixel_bundle, reflectance, params, limits, message):
    allowed = ServingLimits(**{"max_windows": 5, "max_pixels": 10**6, "device": "cpu"} | limits)
    with pytest.raises(RequestError, match=message):
        answer(pixel_bundle, reflectance, {"mode": "windows"} | GIVEN | params, allowed)


def test_answers_of_many_classes_are_limited(either):
    """An answer has a number for each class: a map of thousands of classes would be gigabytes of JSON."""
    many = dataclasses.replace(either, card=either.card.model_copy(update={"classes": [f"c{i}" for i in range(999)]}))
    allowed = ServingLimits(max_windows=5, max_pixels=9248, device="cpu")
    shape = r"\(2, 68, 68, 999\)" if either.card.unit == "pixel" else r"\(2, 17, 17, 999\)"
    with pytest.raises(
        RequestError, match=rf"an answer of shape {shape} has \d+ numbers; at most 147968: run `landfold"
    ):
        answer(many, PIXELS, {"mode": "scene"}, allowed)


def test_each_scene_of_a_request_has_its_own_statistics(bundle):
    scenes = np.stack([ground(), ground(seed=1) * 0.3 + 0.2])
    both = answer(bundle, scenes, {"mode": "scene"}, LIMITS)
    assert both.shape == (2, 13, 16, 3)
    for scene, found in zip(scenes, both, strict=True):
        np.testing.assert_array_equal(answer(bundle, scene[None], {"mode": "scene"}, LIMITS)[0], found)
    assert np.abs(both[0] - both[1]).max() > 0.01


def test_a_scene_is_answered_as_landfold_predict_maps_its_file(either, tmp_path):
    bundle = either
    delivered = small_scene(tmp_path / "scenes")
    (outcome,) = predict_scenes(
        [delivered], bundle.folder, tmp_path / "maps", PredictOptions(), bar=lambda name: nullcontext(lambda x: None)
    )
    assert outcome.outcome == "mapped", outcome.reason
    bands = []
    for path in sorted(delivered.glob("*.tif")):
        with rasterio.open(path) as dataset:
            bands.append(dataset.read(1))
    numbers = np.stack(bands)
    reflectance = np.where((numbers == 0).any(axis=0), np.nan, numbers * np.float32(1e-4)).astype(np.float32)
    found = answer(bundle, reflectance[None], {"mode": "scene"}, LIMITS)[0]
    with rasterio.open(tmp_path / f"maps/{delivered.name}_class.tif") as dataset:
        classes = dataset.read(1)
    with rasterio.open(tmp_path / f"maps/{delivered.name}_confidence.tif") as dataset:
        confidence = dataset.read(1)
    nodata = found.sum(axis=2) == 0
    np.testing.assert_array_equal(nodata, classes == NO_CLASS)
    assert nodata.any()
    assert len(np.unique(classes[~nodata])) > 1
    # the file's integers have exact percentiles, the request's float32 reflectance has those of its own digits
    np.testing.assert_allclose(found.max(axis=2)[~nodata], confidence[~nodata], atol=0.5 / STEPS + 1e-5)
    sure = np.sort(found, axis=2)[..., -1] - np.sort(found, axis=2)[..., -2] > 1e-4
    np.testing.assert_array_equal(found.argmax(axis=2)[~nodata & sure] + 1, classes[~nodata & sure])


GOOD = np.full((2, len(BANDS), SIZE_PX, SIZE_PX), 0.2, dtype=np.float32)


GIVEN = {"low": [0.0] * len(CHANNELS), "high": [0.5] * len(CHANNELS)}


def changed(index, value):
    values = GOOD.copy()
    values[index] = value
    return values


REFUSED = {
    "bands": (
        GOOD[:, :3],
        GIVEN,
        r"\(2, 3, 8, 8\), float32; expected numbers of shape \(n, 4, y, x\), bands B, G",
    ),
    "size": (GOOD[..., :7], GIVEN, r"windows of 8 x 7 px; the model expects 8 x 8"),
    "empty": (GOOD[:0], GIVEN, r"shape \(0, 4, 8, 8\), .*none of them empty"),
    "no pixels": (GOOD[:, :, :0], GIVEN, r"shape \(2, 4, 0, 8\), .*none of them empty"),
    "rank": (GOOD[0], GIVEN, r"shape \(4, 8, 8\), float32; expected numbers of shape \(n, 4, y, x\)"),
    "ragged": (np.array([None], dtype=object), GIVEN, r"shape \(1,\), object"),
    "no array": (None, GIVEN, "reflectance is no array"),
    "infinite": (changed((0, 1, 2, 3), np.inf), GIVEN, "infinite values; send NaN"),
    "all NaN": (changed(1, np.nan), GIVEN, r"no valid pixel in window 1 \(counted from 0\)"),
    "a band NaN": (changed((0, 2), np.nan), GIVEN, "no valid pixel in window 0"),
    "digital numbers": (changed(slice(None), 1200), GIVEN, "band B has a median of 1200; expected reflectance"),
    "too many": (np.repeat(GOOD, 3, axis=0), GIVEN, "6 windows; a request may have 5"),
    "sets": (GOOD, GIVEN | {"sets": "yes"}, "sets is 'yes'; expected true or false"),
    "mode": (GOOD, {"mode": "map"}, "mode is 'map'; expected windows or scene"),
    "no statistics": (GOOD, {}, "mode windows needs the params low and high"),
    "one of them": (GOOD, {"low": GIVEN["low"]}, "there is no high; send low and high, or neither"),
    "short": (GOOD, {"low": [0.0], "high": [1.0]}, "low has 1 values; expected one for each channel: B, G, R, N, NDVI"),
    "not finite": (GOOD, GIVEN | {"high": [np.nan] * 5}, "high is no list of finite numbers"),
    "text": (GOOD, GIVEN | {"low": ["1"] * 5}, "low is no list of finite numbers"),
    "huge": (GOOD, GIVEN | {"low": [10**400] * 5}, "low is no list of finite numbers"),
    "nested": (GOOD, GIVEN | {"low": [[1], [2, 3]]}, "low is no list of finite numbers"),
    "a number": (GOOD, GIVEN | {"low": 1}, "low is no list of finite numbers"),
    "crossed": (GOOD, GIVEN | {"low": [0.6] * 5}, "channel B: low is 0.6, above high, which is 0.5"),
    "large scene": (GOOD, {"mode": "scene"}, "128 pixels; a request may have 100"),
    "many scenes": (
        np.repeat(GOOD[:1, :, :1, :1], 6, axis=0),
        GIVEN | {"mode": "scene"},
        "6 scenes; a request may have",
    ),
    "little scene": (GOOD[:1], {"mode": "scene"}, "channel B has 64 valid pixels, the model asks for 100"),
    "empty scene": (changed(1, np.nan)[1:], {"mode": "scene"}, "channel B has 0 valid pixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_answered_is_refused(bundle, name):
    reflectance, params, message = REFUSED[name]
    limits = ServingLimits(max_windows=5, max_pixels=100, device="cpu")
    with pytest.raises((RequestError, BundleError), match=message):
        answer(bundle, reflectance, params, limits)


def test_nodata_pixels_are_as_in_a_normalized_scene(bundle):
    """Invalid in one band is invalid in all, and 0 after scaling, as ingest and normalize have it."""
    windows = GOOD.copy()
    windows[0, 3, 2, 5] = np.nan
    expected = bundle.channels_of({b: GOOD[:, i] for i, b in enumerate(BANDS)}, _statistics()).swapaxes(0, 1).copy()
    expected[0, :, 2, 5] = 0
    np.testing.assert_array_equal(answer(bundle, windows, GIVEN, LIMITS), bundle.probabilities(expected))
    for params in ({"low": [0.1] * 5, "high": [0.5] * 5}, {"low": [0.0] * 5, "high": [0.6] * 5}):
        assert np.abs(answer(bundle, windows, params, LIMITS) - answer(bundle, windows, GIVEN, LIMITS)).max() > 1e-4


def test_prediction_sets_are_the_classes_of_enough_probability(bundle):
    probabilities = answer(bundle, GOOD, GIVEN, LIMITS)
    sets = answer(bundle, GOOD, GIVEN | {"sets": True}, LIMITS)
    largest = probabilities == probabilities.max(axis=-1, keepdims=True)
    np.testing.assert_array_equal(sets, (probabilities >= 0.2) | largest)
    scene = ground()
    cells, sets = (answer(bundle, scene[None], {"mode": "scene", "sets": sets}, LIMITS) for sets in (False, True))
    np.testing.assert_array_equal(sets.any(axis=-1), cells.any(axis=-1))
    assert set(sets.sum(axis=-1).ravel()) == {0, 2}, "cells without data, and two classes of three"
    plain = dataclasses.replace(bundle, card=bundle.card.model_copy(update={"calibration": None}))
    with pytest.raises(RequestError, match="the model has no prediction sets"):
        answer(plain, GOOD, GIVEN | {"sets": True}, LIMITS)


def _statistics():
    return SceneStatistics("s", 2, 98, {name: ChannelStatistics(0.0, 0.5, 1) for name in CHANNELS})
