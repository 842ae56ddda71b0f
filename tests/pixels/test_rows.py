import numpy as np
import pytest
import torch
from affine import Affine
from rasterio.windows import Window

from landfold.folds.zones import Blocks
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.pixels.ground import HeldOutGround
from landfold.pixels.rows import (
    LabelledScenes,
    PixelError,
    collect,
    draw,
    read_padded,
    trainable,
    usable_pixels,
)
from landfold.pixels.surroundings import pixel_features, surroundings
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, box, make_grid, write_labelled_scene, write_raster

BOXES = [3, 7]
ELSEWHERE = make_grid(14, 30, x_px=100)


@pytest.fixture
def scenes(tmp_path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Two scenes of other sizes side by side: their values, labels, and which pixels hold data."""
    random, written = np.random.default_rng(0), {}
    for name, grid in {"b": make_grid(23, 31), "a": ELSEWHERE}.items():
        values = random.random((3, *grid.shape), dtype=np.float32)
        labels = random.integers(0, 4, grid.shape)
        valid = random.random(grid.shape) < 0.9
        valid[:5, :4] = False
        values = write_labelled_scene(tmp_path, name, values, labels, grid=grid, valid=valid)
        written[name] = (values, labels.astype(np.uint8), valid)
    return {name: written[name] for name in sorted(written)}


@pytest.fixture
def labelled(tmp_path, scenes) -> LabelledScenes:
    return LabelledScenes.of(tmp_path / "normalized", tmp_path / "labels")


def rows_at_once(monkeypatch, count: int) -> None:
    monkeypatch.setitem(LabelledScenes.strips.__kwdefaults__, "rows", count)


def ground(*footprints, zones=(), buffer_m=0.0) -> HeldOutGround:
    none = np.array([], dtype=object)
    rule = Blocks(70, (ORIGIN_X, ORIGIN_Y))
    return HeldOutGround(CRS_UTM33, rule, frozenset(zones), np.array(footprints, dtype=object), none, buffer_m)


HELD_OUT = ground(box(100, 60, 180, 140), box(1100, 0, 1150, 70), zones=["E0N-3", "E17N-1"], buffer_m=25)


@pytest.mark.parametrize("margin", [0, 1, 3, 12])
@pytest.mark.parametrize(
    "window",
    [
        *((0, 0, 9, 7), (0, 0, 2, 2), (7, 0, 2, 3), (0, 5, 3, 2), (7, 5, 2, 2), (3, 2, 4, 3)),
        *((0, 3, 9, 2), (8, 6, 1, 1), (4, 0, 1, 7)),
    ],
)
def test_a_padded_window_is_0_outside_of_the_raster(tmp_path, window, margin):
    whole = np.arange(1, 2 * 7 * 9 + 1, dtype=np.float32).reshape(2, 7, 9)
    write_raster(tmp_path / "s.tif", {"c0": whole[0], "c1": whole[1]})
    window = Window(*window)
    with Raster.open(tmp_path / "s.tif") as raster:
        found = read_padded(raster, window, margin)
    padded = np.pad(whole, ((0, 0), (margin, margin), (margin, margin)))
    top, left = window.row_off, window.col_off
    assert np.array_equal(
        found, padded[:, top : top + window.height + 2 * margin, left : left + window.width + 2 * margin]
    )


@pytest.mark.parametrize("strip_px", [1, 4, 128])
def test_strips_are_all_rows_of_all_scenes_with_their_surroundings(monkeypatch, scenes, labelled, strip_px):
    rows_at_once(monkeypatch, strip_px)
    strips = list(labelled.strips(2))
    assert labelled.channels == ["c0", "c1", "c2"]
    assert list(dict.fromkeys(strip.scene for strip in strips)) == ["a", "b"]
    for name, (values, labels, valid) in scenes.items():
        own = [strip for strip in strips if strip.scene == name]
        padded, around = np.pad(values, ((0, 0), (2, 2), (2, 2))), np.pad(labels, 1)
        top = 0
        for strip in own:
            assert (strip.window.row_off, strip.window.width) == (top, values.shape[2])
            end = top + strip.window.height
            assert np.array_equal(strip.values, padded[:, top : end + 4])
            assert np.array_equal(strip.labels, around[top : end + 2])
            assert np.array_equal(strip.classes, labels[top:end])
            assert np.array_equal(strip.valid, valid[top:end])
            assert np.array_equal(strip.labelled, valid[top:end] & (labels[top:end] > 0))
            corner = (ELSEWHERE if name == "a" else make_grid()).transform @ (0, top)
            assert strip.grid.transform @ (0, 0) == corner
            top = end
        assert top == values.shape[1]


def test_strips_that_are_not_wanted_are_not_read(monkeypatch, labelled):
    rows_at_once(monkeypatch, 10)
    asked = []

    def wanted(scene, window):
        asked.append((scene, window.row_off, window.height))
        return asked[-1] == ("b", 10, 10)

    (strip,) = labelled.strips(wanted=wanted)
    assert (strip.scene, strip.window.row_off) == ("b", 10)
    assert asked == [("a", 0, 10), ("a", 10, 4), ("b", 0, 10), ("b", 10, 10), ("b", 20, 3)]


def test_refuses_no_scene_and_scenes_of_other_channels(tmp_path, labelled):
    with pytest.raises(PixelError, match=r"elsewhere: no scene; run dvc repro normalize"):
        LabelledScenes.of(tmp_path / "elsewhere", tmp_path / "labels")
    write_raster(tmp_path / "normalized/c.tif", {"c0": np.zeros((4, 4), dtype=np.float32)})
    with pytest.raises(PixelError, match=r"c.tif: channels c0, other scenes have c0, c1, c2; run dvc repro normalize"):
        LabelledScenes.of(tmp_path / "normalized", tmp_path / "labels")


def test_refuses_labels_that_are_absent_or_on_another_grid(tmp_path, labelled):
    other = Grid(CRS_UTM33, make_grid().transform @ Affine.translation(1, 0), 23, 31)
    write_raster(tmp_path / "labels/b.tif", {"class": np.ones((23, 31), dtype=np.uint8)}, grid=other, nodata=0)
    with pytest.raises(PixelError, match=r"b.tif: another grid than .*shifted by up to 1 px; run dvc repro patches"):
        list(labelled.strips())
    (tmp_path / "labels/b.tif").unlink()
    with pytest.raises(PixelError, match=r"b.tif: not found; expected the labels of a scene; run dvc repro patches"):
        list(labelled.strips())


def unpacked(masks: list[np.ndarray], shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    return [
        np.unpackbits(mask, count=int(np.prod(shape))).astype(bool).reshape(shape)
        for mask, shape in zip(masks, shapes, strict=True)
    ]


def test_usable_pixels_have_data_a_label_and_ground_that_may_be_seen(scenes, labelled):
    masks = usable_pixels(labelled, trainable(HELD_OUT))
    grids = {"a": ELSEWHERE, "b": make_grid(23, 31)}
    found = unpacked(masks, [grid.shape for grid in grids.values()])
    for (name, (_, labels, valid)), mask in zip(scenes.items(), found, strict=True):
        blocked = HELD_OUT.blocked(grids[name])
        assert blocked.any()
        assert np.array_equal(mask, valid & (labels > 0) & ~blocked)


MASKS = [np.random.default_rng(5).random(size) < 0.3 for size in (61, 8, 40, 3)]
PACKED = [np.packbits(mask) for mask in MASKS]
THERE = int(sum(mask.sum() for mask in MASKS))


@pytest.mark.parametrize("most", [1, 7, THERE - 1])
def test_exactly_so_many_of_the_pixels_are_drawn(most):
    drawn = draw(PACKED, most, seed=(0, 1))
    assert sum(int(np.bitwise_count(mask).sum()) for mask in drawn) == most
    for before, after in zip(PACKED, drawn, strict=True):
        assert after.shape == before.shape
        assert not (after & ~before).any()


def test_all_pixels_are_taken_where_there_are_no_more():
    for most in (THERE, THERE + 5):
        assert all(map(np.array_equal, draw(PACKED, most, seed=(0,)), PACKED))


def test_the_seed_draws_the_pixels_and_each_is_as_likely():
    first, again, other = (draw(PACKED, 7, seed=seed) for seed in ((3, 1), (3, 1), (3, 2)))
    assert all(map(np.array_equal, first, again))
    assert not all(map(np.array_equal, first, other))
    counts = sum(
        np.concatenate([np.unpackbits(mask) for mask in draw(PACKED, 7, seed=(i,))]).astype(int) for i in range(2000)
    )
    pixels = np.concatenate([np.unpackbits(mask) for mask in PACKED]).astype(bool)
    assert (counts[~pixels] == 0).all()
    expected = 2000 * 7 / THERE
    assert counts[pixels].tolist() == pytest.approx([expected] * THERE, abs=5 * np.sqrt(expected))


@pytest.mark.parametrize("strip_px", [3, 128])
def test_collected_features_are_those_of_the_whole_scene_with_its_held_out_ground_blanked(
    monkeypatch, scenes, labelled, strip_px
):
    rows_at_once(monkeypatch, strip_px)
    masks = draw(usable_pixels(labelled, trainable(HELD_OUT)), 60, seed=(0,))
    if strip_px == 3:
        masks[1] = np.zeros_like(masks[1])  # a strip without a pixel is not read
    found = collect(labelled, masks, HELD_OUT, BOXES)
    shapes = [strip.valid.shape for strip in labelled.strips()]
    chosen = unpacked(masks, shapes)
    count = 5 if strip_px == 3 else 1  # strips of the first scene
    wholes = {"a": np.concatenate(chosen[:count]), "b": np.concatenate(chosen[count:])}
    features, labels, zones = [], [], []
    for name, (values, classes, _) in scenes.items():
        grid = ELSEWHERE if name == "a" else make_grid(23, 31)
        seen = np.where(HELD_OUT.blocked(grid), np.float32(0), values)
        padded = np.pad(seen, ((0, 0), (3, 3), (3, 3)))
        features.append(pixel_features(padded, BOXES, wholes[name]))
        labels.append(classes[wholes[name]].astype(int) - 1)
        zones.append(HELD_OUT.zones_of(grid)[wholes[name]])
    assert len(found) == sum(mask.sum() for mask in chosen) > 40
    assert np.array_equal(found.labels, np.concatenate(labels))
    assert list(found.zones) == list(np.concatenate(zones))
    assert found.features.dtype == np.float32
    assert np.array_equal(found.features, np.concatenate(features))
    part = found.part(np.array([4, 0]))
    assert np.array_equal(part.features, found.features[[4, 0]])
    assert (list(part.labels), list(part.zones)) == (list(found.labels[[4, 0]]), list(found.zones[[4, 0]]))


def test_strips_of_another_height_give_the_same_bits(monkeypatch, labelled):
    found = []
    for strip_px in (1, 5, 128):
        rows_at_once(monkeypatch, strip_px)
        found.append(collect(labelled, usable_pixels(labelled, trainable(HELD_OUT)), HELD_OUT, BOXES))
    for other in found[1:]:
        assert np.array_equal(other.features, found[0].features)
        assert np.array_equal(other.labels, found[0].labels)
        assert list(other.zones) == list(found[0].zones)


def test_what_is_held_out_has_no_influence_on_features(tmp_path, scenes, labelled):
    masks = usable_pixels(labelled, trainable(HELD_OUT))
    before = collect(labelled, masks, HELD_OUT, BOXES)
    free = collect(labelled, masks, HELD_OUT.nothing, BOXES)
    assert not np.array_equal(before.features, free.features)
    for name, grid in {"a": ELSEWHERE, "b": make_grid(23, 31)}.items():
        values, labels, valid = scenes[name]
        blocked = HELD_OUT.blocked(grid)
        values, labels = np.where(blocked, 1 - values, values), np.where(blocked, 3 - labels, labels)
        write_labelled_scene(tmp_path, name, values, labels, grid=grid, valid=valid | blocked)
    after_masks = usable_pixels(labelled, trainable(HELD_OUT))
    assert all(map(np.array_equal, after_masks, masks))
    after = collect(labelled, masks, HELD_OUT, BOXES)
    assert np.array_equal(after.features, before.features)
    assert np.array_equal(after.labels, before.labels)


def test_features_of_some_pixels_are_theirs_in_order():
    values = np.random.default_rng(0).random((2, 12, 15), dtype=np.float32)
    chosen = np.zeros((6, 9), dtype=bool)
    chosen[0, 8] = chosen[5, 0] = chosen[2, 3] = True
    found = pixel_features(values, BOXES, chosen)
    whole = surroundings(torch.from_numpy(values)[None], BOXES)[0].numpy()
    assert found == pytest.approx(whole[:, [0, 2, 5], [8, 3, 0]].T, abs=1e-6)
