import inspect

import numpy as np
import pytest

from landfold.geo.raster import Raster
from landfold.maps import inference
from landfold.maps.inference import InferenceError, check_stride, map_grid, predict_windows, shifts_px
from landfold.network.model import Classifier
from tests import factories
from tests.network.test_model import make_card, make_classifier

CHANNELS = ["row", "column"]
HEIGHT, WIDTH = 71, 94
STRIDES = [*((16, stride) for stride in range(2, 17, 2)), *((15, stride) for stride in range(1, 16, 2))]
SHAPES = [*STRIDES, (9, 3), (2, 2), (32, 4), (1, 1)]


class Centre:
    """A classifier that tells the coordinates in the centre of its window instead of probabilities."""

    def __init__(self, size_px: int, **changes) -> None:
        self.card = make_card(channels=CHANNELS, size_px=size_px, core_px=size_px, classes=["a", "b", "c"], **changes)

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        size = self.card.size_px
        assert windows.shape[1:] == (2, size, size)
        middle = slice((size - 1) // 2, size // 2 + 1)
        row, column = windows[:, :, middle, middle].mean(axis=(2, 3)).T
        return np.stack([row, column, windows.mean(axis=(1, 2, 3))], axis=1)


def coded(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Row and column of every pixel, (channel, y, x)."""
    return np.stack(np.mgrid[:height, :width]).astype(np.float32)


def corner(height: int = HEIGHT, width: int = WIDTH, size: int = 20) -> np.ndarray:
    """Valid but for the upper left corner."""
    rows, columns = np.mgrid[:height, :width]
    return ~((rows < size) & (columns < size))


def write(folder, height=HEIGHT, width=WIDTH, valid=None, names=CHANNELS):
    values = dict(zip(names, coded(height, width), strict=True))
    valid = np.ones((height, width), bool) if valid is None else valid
    return factories.write_raster(folder / "scene.tif", values, valid=valid)


def run(path, models, stride_px, **options):
    """The whole map: probabilities (model, row, column, class), valid, padded; each cell is predicted once."""
    with Raster.open(path) as raster:
        grid = map_grid(raster.grid, stride_px)
        strips = list(predict_windows(raster, models, stride_px, **options))
    seen = np.zeros(grid.shape, dtype=int)
    for strip in strips:
        seen[strip.window.toslices()] += 1
        assert strip.probabilities.shape[1:3] == strip.valid.shape == strip.padded.shape
    assert (seen == 1).all()
    first = strips[0].probabilities
    whole = np.empty((len(first), *grid.shape, first.shape[3]), dtype=first.dtype)
    valid, padded = (np.empty(grid.shape, dtype=getattr(strips[0], name).dtype) for name in ("valid", "padded"))
    for strip in strips:
        place = strip.window.toslices()
        whole[:, *place], valid[place], padded[place] = strip.probabilities, strip.valid, strip.padded
    return whole, valid, padded


def by_hand(values: np.ndarray, size: int, stride: int, mode: str) -> np.ndarray:
    """Every window of the padded whole scene cut by itself: (row, column, channel, size, size)."""
    lead = (size - stride) // 2
    height, width = values.shape[1:]
    rows, columns = -(-height // stride), -(-width // stride)
    beyond = [max(0, (n - 1) * stride - lead + size - side) for n, side in ((rows, height), (columns, width))]
    whole = np.pad(values, ((0, 0), (lead, beyond[0]), (lead, beyond[1])), mode=mode)
    return np.array(
        [
            [whole[:, r * stride : r * stride + size, c * stride : c * stride + size] for c in range(columns)]
            for r in range(rows)
        ]
    )


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write(tmp_path_factory.mktemp("scene"))


@pytest.mark.parametrize("offsets", [1, 2, 3])
@pytest.mark.parametrize(("size", "stride"), SHAPES)
def test_no_shift(scene, size, stride, offsets):
    if offsets > stride:
        with pytest.raises(
            InferenceError, match=rf"export.offsets is {offsets}, but a cell has {stride} x {stride} px"
        ):
            run(scene, [Centre(size)], stride, offsets=offsets)
        return
    found, _, _ = run(scene, [Centre(size)], stride, offsets=offsets)
    assert found.shape[1:3] == (-(-HEIGHT // stride), -(-WIDTH // stride))
    inside = found[0, : HEIGHT // stride, : WIDTH // stride]
    rows, columns = (np.arange(n) * stride + (stride - 1) / 2 for n in inside.shape[:2])
    # a window's centre is reflected at the edge only where it is beyond it, or a pixel of it is
    edge = 1 if offsets > 1 and max(shifts_px(stride, offsets)) >= stride // 2 else 0
    kept = slice(edge, -edge or None)
    assert np.abs(inside[kept, kept, 0] - rows[kept, None]).max() < 1e-4
    assert np.abs(inside[kept, kept, 1] - columns[kept]).max() < 1e-4


@pytest.mark.parametrize("stride", range(1, 17))
def test_windows_of_a_cell_are_spread_about_its_centre_and_stay_within_it(stride):
    for offsets in range(1, stride + 1):
        shifts = shifts_px(stride, offsets)
        assert shifts == sorted(set(shifts))
        assert len(shifts) == offsets
        assert shifts == [-shift for shift in reversed(shifts)]
        assert 2 * shifts[-1] <= stride
        if offsets > 1:
            assert np.ptp(np.diff(shifts)) <= 1 + (offsets % 2 == 0)
    assert shifts_px(stride, 1) == [0]


def test_offsets_are_the_mean_of_the_windows_shifted(scene):
    models = [make_classifier(seed, channels=CHANNELS, fold=seed) for seed in (0, 1)]
    found, _, padded = run(scene, models, 8, offsets=3)
    values = np.pad(coded(), ((0, 0), (16, 16), (16, 16)), mode="reflect")
    data = np.pad(np.ones((HEIGHT, WIDTH)), 16)
    for row, column in [(0, 0), (3, 7), (8, 11)]:
        tops, lefts = ([16 + 8 * at - 4 + shift for shift in (-3, 0, 3)] for at in (row, column))
        places = [(slice(y, y + 16), slice(x, x + 16)) for y in tops for x in lefts]
        windows = np.stack([values[:, *place] for place in places])
        for model, mine in zip(models, found, strict=True):
            assert np.allclose(mine[row, column], model.probabilities(windows).mean(axis=0), atol=1e-6)
        assert padded[row, column] == pytest.approx(1 - np.mean([data[place] for place in places]), abs=1e-6)


def test_with_flips_and_rotations_the_map_of_a_turned_scene_is_the_map_turned(tmp_path):
    random = np.random.default_rng(0)
    values = random.random((2, 64, 48)).astype(np.float32)
    model = make_classifier(3, channels=CHANNELS)
    found = {}
    ways = {
        "as it is": (lambda scene: scene, lambda cells: cells),
        "turned": (lambda scene: np.rot90(scene, axes=(1, 2)), lambda cells: np.rot90(cells, -1)),
        "mirrored": (lambda scene: scene[:, ::-1], lambda cells: cells[::-1]),
    }
    for way, (there, back) in ways.items():
        for averaged in (False, True):
            channels = dict(zip(CHANNELS, there(values), strict=True))
            path = factories.write_raster(tmp_path / "s.tif", channels)
            found[way, averaged] = back(run(path, [model], 8, flips_and_rotations=averaged)[0][0])
    for way in ("turned", "mirrored"):
        assert np.allclose(found["as it is", True], found[way, True], atol=1e-6)
        assert not np.allclose(found["as it is", False], found[way, False], atol=1e-3)
    assert np.allclose(found["as it is", True].sum(axis=2), 1, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (64, 96), (65, 40), (5, 40), (40, 3), (7, 9), (1, 1)])
@pytest.mark.parametrize(("size", "stride"), [(16, 4), (16, 8), (15, 5), (16, 16), (32, 8)])
def test_every_window_is_that_of_the_reflected_scene(tmp_path, height, width, size, stride):
    values, valid = coded(height, width), corner(height, width, 3)
    if not valid.any():
        valid[:] = True
    found, data, padded = run(write(tmp_path, height, width, valid), [Centre(size)], stride)
    windows = by_hand(values, size, stride, "reflect")
    expected = Centre(size).probabilities(windows.reshape(-1, 2, size, size)).reshape(found[0].shape)
    assert np.array_equal(found[0], expected)
    known = by_hand(valid[None], size, stride, "constant")
    assert np.allclose(padded, 1 - known.mean(axis=(2, 3, 4)), atol=1e-7)
    lead = (size - stride) // 2
    own = known[:, :, 0, lead : lead + stride, lead : lead + stride]
    assert np.array_equal(data, own.mean(axis=(2, 3)))


def test_padded_is_the_share_outside_and_0_within(tmp_path):
    _, valid, padded = run(write(tmp_path, 64, 96), [Centre(16)], 4)
    assert (valid == 1).all()
    assert (padded[2:-2, 2:-2] == 0).all()
    assert (padded[:2] > 0).all()
    assert (padded[:, -2:] > 0).all()
    corners = padded[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.allclose(corners, 1 - (10 / 16) ** 2)
    assert np.allclose(padded[0, 2:-2], 6 / 16)


def test_cells_over_nodata_and_beyond_the_scene_hold_less(tmp_path):
    _, valid, padded = run(write(tmp_path, valid=corner()), [Centre(16)], 8)
    assert valid.shape == (9, 12)
    assert (valid[:2, :2] == 0).all()
    assert valid[2, 2] == (64 - 16) / 64
    assert (valid[3:8, :11] == 1).all()
    assert np.allclose(valid[8, 3:11], 7 / 8)
    assert np.allclose(valid[:8, 11], 6 / 8)
    assert (padded[:2, :2] == 1).all()
    assert padded[2, 2] == pytest.approx(64 / 256)


@pytest.mark.parametrize("cells", [1, 3, 100])
@pytest.mark.parametrize("options", [{}, {"offsets": 2}])
def test_strips_do_not_matter(tmp_path, monkeypatch, cells, options):
    path = write(tmp_path, valid=corner())
    models = [make_classifier(seed, channels=CHANNELS, fold=seed) for seed in (0, 1)]
    expected = run(path, models, 4, **options)
    monkeypatch.setattr(inference, "STRIP_CELLS", cells)
    for found, whole in zip(run(path, models, 4, **options), expected, strict=True):
        assert np.array_equal(found, whole)


@pytest.mark.parametrize(("batch", "wide"), [(5, 1), (8, 32), (8, 33)])
def test_parts_of_a_wide_scene_do_not_matter(tmp_path, monkeypatch, batch, wide):
    path = write(tmp_path, valid=corner())
    expected = run(path, [Centre(16)], 4, offsets=3)
    monkeypatch.setattr(inference, "BATCH", batch)
    monkeypatch.setattr(inference, "WIDE_PX", wide)
    for found, whole in zip(run(path, [Centre(16)], 4, offsets=3), expected, strict=True):
        assert np.array_equal(found, whole)


def test_a_part_is_whole_batches_of_the_network():
    default = inspect.signature(Classifier.probabilities).parameters["batch"].default
    assert default == inference.BATCH


def test_no_seams_of_a_network_on_a_smooth_field(tmp_path, monkeypatch):
    """However it is cut, the map is that of all windows at once, and steps are no greater where parts meet."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.stack([np.sin(rows / 17 + columns / 29), np.cos(rows / 23 - columns / 31)]).astype(np.float32)
    path = factories.write_raster(tmp_path / "s.tif", dict(zip(CHANNELS, waves, strict=True)))
    models = [make_classifier(5, channels=CHANNELS)]
    windows = by_hand(waves, 16, 2, "reflect")
    whole = models[0].probabilities(windows.reshape(-1, 2, 16, 16)).reshape(36, 47, -1)
    for cells, batch, wide in [(8, 256, 2**15), (5, 7, 14), (1, 16, 16)]:
        monkeypatch.setattr(inference, "STRIP_CELLS", cells)
        monkeypatch.setattr(inference, "BATCH", batch)
        monkeypatch.setattr(inference, "WIDE_PX", wide)
        found = run(path, models, 2)[0][0]
        assert np.allclose(found, whole, atol=1e-6)
        down, right = (np.abs(np.diff(found, axis=axis)).max(axis=(1 - axis, 2)) for axis in (0, 1))
        if cells > 1:
            assert max(down[cells - 1 :: cells]) <= 1.5 * np.delete(down, slice(cells - 1, None, cells)).max()
        if batch < 47:
            assert max(right[batch - 1 :: batch]) <= 1.5 * np.delete(right, slice(batch - 1, None, batch)).max()


def test_each_model_speaks_for_itself(tmp_path):
    path = write(tmp_path)
    models = [make_classifier(seed, channels=CHANNELS, fold=seed) for seed in (0, 1)]
    both = run(path, models, 8)[0]
    for model, alone in zip(models, both, strict=True):
        assert np.array_equal(run(path, [model], 8)[0][0], alone)
    assert not np.allclose(both[0], both[1], atol=1e-3)
    assert np.allclose(both.sum(axis=3), 1, atol=1e-6)


def test_no_seams_on_a_smooth_field(tmp_path):
    found = run(write(tmp_path, 96, 96), [Centre(16)], 2)[0][0, 4:-4, 4:-4]
    assert np.abs(np.diff(found, n=2, axis=0)).max() < 1e-4
    assert np.abs(np.diff(found, n=2, axis=1)).max() < 1e-4
    assert np.allclose(np.diff(found[:, :, 0], axis=0), 2)


def test_reads_a_few_rows_at_a_time_and_hardly_any_twice(tmp_path, monkeypatch):
    heights = []
    read = Raster.read_raw
    monkeypatch.setattr(
        Raster, "read_raw", lambda self, window, *names: heights.append(window.height) or read(self, window, *names)
    )
    run(write(tmp_path, 800, 20), [Centre(16)], 4)
    assert max(heights) <= inference.STRIP_CELLS * 4 + 16
    assert sum(heights) < 1.5 * 800


def test_hands_a_model_the_windows_of_one_row_of_cells_at_most(tmp_path):
    given = []

    class Counting(Centre):
        def probabilities(self, windows):
            given.append(len(windows))
            return super().probabilities(windows)

    run(write(tmp_path), [Counting(16)], 8)
    assert given == [12] * 9


@pytest.mark.parametrize(("size", "stride", "parity"), [(16, 5, "even"), (15, 4, "odd"), (16, 18, "even")])
def test_refuses_a_stride_that_does_not_centre_windows(tmp_path, size, stride, parity):
    message = rf"export.stride_px is {stride}, but windows are {size} px: .* at most {size} that is {parity}"
    with pytest.raises(InferenceError, match=message):
        check_stride(size, stride)
    with pytest.raises(InferenceError, match=message):
        run(write(tmp_path), [Centre(size)], stride)


@pytest.mark.parametrize("names", [["column", "row"], ["row", "N"]])
def test_refuses_a_scene_of_other_channels(tmp_path, names):
    with pytest.raises(InferenceError, match=rf"scene.tif: channels {', '.join(names)}; .*fold 0 expects row, column"):
        run(write(tmp_path, names=names), [Centre(16)], 8)


def test_refuses_models_that_differ(tmp_path):
    other = Centre(16, fold=1)
    other.card = other.card.model_copy(update={"classes": ["b", "a", "c"]})
    with pytest.raises(InferenceError, match="the models of folds 0 and 1 differ in classes or size_px; run dvc repro"):
        run(write(tmp_path), [Centre(16), other], 8)
    with pytest.raises(InferenceError, match="the models of folds 0 and 1 differ in classes or size_px"):
        run(write(tmp_path), [Centre(16), Centre(8, fold=1)], 8)
    third = Centre(16, fold=1)
    third.card = third.card.model_copy(update={"channels": ["column", "row"]})
    with pytest.raises(InferenceError, match="the model of fold 1 expects column, row"):
        run(write(tmp_path), [Centre(16), third], 8)


def test_the_maps_grid_lies_on_the_scenes():
    scene = factories.make_grid(HEIGHT, WIDTH)
    grid = map_grid(scene, 8)
    assert grid.shape == (9, 12)
    assert grid.transform @ (0, 0) == scene.transform @ (0, 0)
    assert grid.transform @ (2, 3) == scene.transform @ (16, 24)
