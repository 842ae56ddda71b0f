from functools import cache

import numpy as np
import pandas
import pytest
from rasterio.windows import Window

from landfold.geo.raster import Raster
from landfold.geo.windows import WindowError
from landfold.patches import features
from landfold.patches.features import FeatureError, cell_features, feature_names, full_windows, patch_features
from tests.factories import centres, make_grid, write_raster

SIZE_PX = 12


def channels(height=90, width=121):
    """Three channels in [0, 1] that tell the pixel: a slope, noise, and a constant that is no sum of halves."""
    east, south = centres(make_grid(height, width))
    noise = np.random.default_rng(4).random((height, width))
    return {
        "G": (east / east.max()).astype(np.float32),
        "NDVI": (noise * south / south.max()).astype(np.float32),
        "S1": np.full((height, width), 0.3, dtype=np.float32),
    }


def scene(folder, name="one", *, height=90, width=121, **options):
    """A scene whose upper left corner, 30 x 20 px, holds no data but NaN."""
    valid = np.ones((height, width), dtype=bool)
    valid[:20, :30] = False
    values = {key: np.where(valid, value, np.nan) for key, value in channels(height, width).items()}
    return write_raster(folder / f"{name}.tif", values, valid=valid, **options)


def table(places, scenes="one", size_px=SIZE_PX):
    names = [scenes] * len(places) if isinstance(scenes, str) else scenes
    return pandas.DataFrame(
        {
            "patch": [f"{name}/{r}/{c}" for name, (r, c) in zip(names, places, strict=True)],
            "scene": names,
            "row": [r for r, _ in places],
            "column": [c for _, c in places],
            "size_px": size_px,
        },
        index=np.arange(len(places)) * 3 + 7,
    )


@cache
def pixels(path):
    with Raster.open(path) as raster:
        return raster.read_reflectance(raster.grid.whole).astype(np.float64)


def brute_force(path, top, left, size):
    """Mean and standard deviation of each channel over the valid pixels of a window, by numpy; and their number."""
    values = pixels(path)
    part = values[:, max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)]
    inside = part.reshape(len(part), -1)
    inside = inside[:, ~np.isnan(inside[0])]
    if not inside.shape[1]:
        return np.full(2 * len(part), np.nan), 0
    return np.stack([inside.mean(axis=1), inside.std(axis=1)], axis=1).ravel(), inside.shape[1]


PLACES = [(60, 4), (0, 109), (14, 25), (15, 24), (78, 60), (0, 40), (63, 5), (64, 5), (14, 25)]


def test_patches_equal_numpy_on_every_window_in_the_order_of_the_table(tmp_path):
    path = scene(tmp_path)
    found = patch_features(table(PLACES), tmp_path)
    assert list(found.columns) == ["G_mean", "G_std", "NDVI_mean", "NDVI_std", "S1_mean", "S1_std"]
    assert list(found.columns) == feature_names(["G", "NDVI", "S1"])
    assert list(found.index) == [f"one/{r}/{c}" for r, c in PLACES]
    assert set(found.dtypes) == {np.dtype("float32")}
    expected = [brute_force(path, row, column, SIZE_PX)[0] for row, column in PLACES]
    np.testing.assert_allclose(found.to_numpy(), expected, atol=1e-6)


def test_a_constant_channel_has_no_spread_at_all(tmp_path):
    scene(tmp_path)
    assert (patch_features(table(PLACES), tmp_path)["S1_std"] == 0).all()


def test_a_window_without_a_valid_pixel_is_not_a_number(tmp_path):
    scene(tmp_path)
    found = patch_features(table([(0, 0), (40, 40)]), tmp_path)
    assert found.iloc[0].isna().all()
    assert found.iloc[1].notna().all()


def test_scenes_in_any_order_and_windows_of_several_sizes(tmp_path):
    paths = [scene(tmp_path, "one"), scene(tmp_path, "two", height=70, width=64)]
    mixed = table([(50, 8), (30, 40), (2, 50), (40, 3)], ["two", "one", "two", "one"])
    mixed["size_px"] = [12, 12, 7, 20]
    found = patch_features(mixed, tmp_path)
    for row, (_, place) in zip(found.to_numpy(), mixed.iterrows(), strict=True):
        path = paths[["one", "two"].index(place["scene"])]
        np.testing.assert_allclose(
            row, brute_force(path, place["row"], place["column"], place["size_px"])[0], atol=1e-6
        )


@pytest.mark.parametrize(("size", "stride"), [(12, 12), (12, 4), (13, 5), (40, 10)])
def test_cells_equal_numpy_on_every_window_also_over_the_edges(tmp_path, size, stride):
    path = scene(tmp_path)
    lead, seen = (size - stride) // 2, 0
    with Raster.open(path) as raster:
        for window, values in cell_features(raster, size_px=size, stride_px=stride):
            assert window.row_off == seen
            assert (window.col_off, window.width) == (0, -(-121 // stride))
            assert values.shape == (window.height, window.width, 6)
            assert values.dtype == np.float32
            seen += window.height
            for row in range(window.height):
                for column in range(0, window.width, 3):
                    top, left = (window.row_off + row) * stride - lead, column * stride - lead
                    expected, _ = brute_force(path, top, left, size)
                    np.testing.assert_allclose(values[row, column], expected, atol=1e-6)
    assert seen == -(-90 // stride)


def test_a_patch_and_the_cell_of_the_same_window_are_the_same(tmp_path):
    path = scene(tmp_path)
    with Raster.open(path) as raster:
        cells = np.concatenate([values for _, values in cell_features(raster, size_px=12, stride_px=4)])
    patches = patch_features(table([*PLACES[:4], (0, 40), (64, 8)]), tmp_path)
    places = [(60, 4), (0, 40), (64, 8)]  # a window's corner is a multiple of the stride, plus the lead of 4
    found = patches.loc[[f"one/{r}/{c}" for r, c in places]].to_numpy()
    np.testing.assert_array_equal(found, [cells[(r + 4) // 4, (c + 4) // 4] for r, c in places])


def test_the_strips_do_not_show(tmp_path, monkeypatch):
    path = scene(tmp_path)

    def both():
        with Raster.open(path) as raster:
            cells = [values for _, values in cell_features(raster, size_px=12, stride_px=4)]
        return patch_features(table(PLACES), tmp_path).to_numpy(), np.concatenate(cells), len(cells)

    patches, cells, strips = both()
    monkeypatch.setattr(features, "STRIP_PX", 8)
    thin_patches, thin_cells, thin_strips = both()
    np.testing.assert_array_equal(patches, thin_patches)
    np.testing.assert_array_equal(cells, thin_cells)
    assert thin_strips > strips


def test_a_scene_is_read_once_from_top_to_bottom(tmp_path, monkeypatch):
    scene(tmp_path)
    read = []
    read_raw = Raster.read_raw

    def watched(self, window: Window, names=None):
        read.append((window.row_off, window.height))
        return read_raw(self, window, names)

    monkeypatch.setattr(Raster, "read_raw", watched)
    patch_features(table([(r, c) for c in range(0, 109, 4) for r in range(0, 78, 12)]), tmp_path)
    assert len(read) == 2, "one read for each strip, not one for each patch"
    assert read == sorted(read)
    assert sum(height for _, height in read) <= 90 + SIZE_PX


def test_absent_scenes_and_unlike_channels_are_refused(tmp_path):
    scene(tmp_path)
    with pytest.raises(WindowError, match=r"two\.tif: not found, but patches were cut from that scene"):
        patch_features(table([(0, 40)], "two"), tmp_path)
    write_raster(tmp_path / "two.tif", {"G": channels()["G"]})
    with pytest.raises(WindowError, match=r"two\.tif: channels G, other scenes have G, NDVI, S1"):
        patch_features(table([(0, 40), (0, 40)], ["one", "two"]), tmp_path)
    with pytest.raises(WindowError, match="no patches; expected a table"):
        patch_features(table([]), tmp_path)


@pytest.mark.parametrize(("size", "stride"), [(12, 5), (12, 14), (12, 0)])
def test_windows_that_cannot_be_centred_are_refused(tmp_path, size, stride):
    with (
        Raster.open(scene(tmp_path)) as raster,
        pytest.raises(FeatureError, match=f"windows of 12 px cannot be centred on cells of {stride} px"),
    ):
        next(cell_features(raster, size_px=size, stride_px=stride))


@pytest.mark.parametrize(("size", "stride", "most"), [(12, 12, 0.0), (12, 5, 0.25), (12, 5, 0.5), (7, 3, 0.2)])
def test_full_windows_are_those_with_enough_data(tmp_path, size, stride, most):
    path = scene(tmp_path)
    with Raster.open(path) as raster:
        found = full_windows(raster, size_px=size, stride_px=stride, max_invalid=most)
    expected = [
        [1 - brute_force(path, row, column, size)[1] / size**2 <= most for column in range(0, 121 - size + 1, stride)]
        for row in range(0, 90 - size + 1, stride)
    ]
    np.testing.assert_array_equal(found, expected)
    assert 0 < (~found).sum() < found.size


@pytest.mark.parametrize(("height", "width"), [(8, 121), (90, 8), (8, 8)])
def test_a_scene_smaller_than_a_window_has_no_full_one(tmp_path, height, width):
    path = write_raster(tmp_path / "one.tif", {"G": np.zeros((height, width), dtype=np.float32)})
    with Raster.open(path) as raster:
        assert full_windows(raster, size_px=12, stride_px=4, max_invalid=0.2).size == 0
