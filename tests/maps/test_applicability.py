from unittest import mock

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landfold.geo.raster import Raster
from landfold.maps import applicability
from landfold.maps.applicability import Applicability, ApplicabilityError, map_dissimilarity, upper_whisker
from landfold.patches.features import patch_features
from tests import factories


def table(values) -> pandas.DataFrame:
    values = np.asarray(values, dtype=np.float32)
    names = [f"c{i}_mean" for i in range(values.shape[1])]
    return pandas.DataFrame(values, columns=names, index=pandas.Index([f"s/{i}" for i in range(len(values))]))


def sides_of(features: pandas.DataFrame, folds, buffer=()) -> list[pandas.Series]:
    """The sides in every fold; ``buffer`` are (fold, patch) pairs that the fold drops."""
    sides = []
    for fold in range(max(folds) + 1):
        side = np.where(np.asarray(folds) == fold, "validation", "train").astype(object)
        side[[patch for dropping, patch in buffer if dropping == fold]] = "buffer"
        sides.append(pandas.Series(side, index=features.index))
    return sides


def random_project(*, patches=60, seed=0):
    """Patches with features of very different size, of which the first tells the label; three folds, a buffer."""
    random = np.random.default_rng(seed)
    labels = random.choice(["a", "b", "c"], size=patches)
    values = random.normal(size=(patches, 4)) * [1, 100, 0.01, 5] + [0, 1000, 0, -3]
    values[:, 0] += 3 * (labels == "a") - 3 * (labels == "b")
    folds = random.integers(3, size=patches)
    folds[:3] = range(3)
    features = table(values)
    buffer = [((folds[i] + 1) % 3, i) for i in range(0, patches, 7)]
    return features, labels, sides_of(features, folds, buffer), folds


def learned(features, labels, sides) -> Applicability:
    """The area of patches of 16 px."""
    return Applicability.of(features, labels, sides, size_px=16)


def unweighted(features, labels, sides):
    """The area of applicability when all features count alike."""
    with mock.patch.object(applicability, "_importances", lambda values, _: np.ones(values.shape[1])):
        return learned(features, labels, sides)


def line_of_four():
    """Patches at 0 and 1 (fold 0), 3 and 7 (fold 1) of one feature."""
    features = table([[0.0], [1.0], [3.0], [7.0]])
    return unweighted(features, np.array(list("aabb")), sides_of(features, [0, 0, 1, 1]))


def test_four_points_by_hand():
    """Pairs are 1, 3, 7, 2, 6 and 4 apart, 23 / 6 in the mean; nearest of the other fold 3, 2, 2 and 6."""
    area = line_of_four()
    assert area.training == pytest.approx(np.array([3, 2, 2, 6]) * 6 / 23)
    assert area.threshold == pytest.approx(36 / 23)  # the whisker, 38.25 / 23, is beyond the maximum
    assert area.patches == 4
    points = np.array([[5.0], [3.0], [-1.0], [7.5]])
    assert area.dissimilarity(points) == pytest.approx(np.array([2, 0, 1, 0.5]) * 6 / 23)
    held_out = np.array([1, 1, 0, 0])
    assert area.dissimilarity(points, held_out) == pytest.approx(np.array([4, 2, 4, 0.5]) * 6 / 23)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [([0.1, 0.2, 0.4, 1, 5], 2.2), ([1, 2, 3, 4], 4), ([2, 2, 2], 2), ([0, 1, 2, 3, 100], 6)],
)
def test_the_threshold_is_the_upper_whisker(indices, expected):
    """The first are those of CAST's own test of .di_threshold: quantile .75 + 1.5 IQR, at most the maximum."""
    assert upper_whisker(np.array(indices)) == pytest.approx(expected)


def brute_force(features, weights, sides, new, own_fold):
    """The formulae of Meyer and Pebesma (2021), section 2, point by point in double precision."""
    values = features.to_numpy(np.float64)
    train = [np.array([side[patch] == "train" for patch in features.index]) for side in sides]
    known = [i for i in range(len(values)) if any(mine[i] for mine in train)]
    centre, spread = values[known].mean(axis=0), values[known].std(axis=0, ddof=1)

    def distance(a, b):
        return np.sqrt(sum((weights[j] * (a[j] - b[j]) / spread[j]) ** 2 for j in range(len(centre))))

    pairs = [distance(values[i], values[j]) for i in known for j in known if i != j]
    mean = sum(pairs) / len(pairs)
    training = []
    for side, mine in zip(sides, train, strict=True):
        held_out = [i for i in known if side[features.index[i]] == "validation"]
        training += [min(distance(values[i], values[j]) for j in known if mine[j]) / mean for i in held_out]
    ordered = sorted(training)

    def quantile(share):
        place = share * (len(ordered) - 1)
        low = int(place)
        return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])

    threshold = min(quantile(0.75) + 1.5 * (quantile(0.75) - quantile(0.25)), ordered[-1])
    found = [
        min(distance(point, values[j]) for j in known if fold < 0 or train[fold][j]) / mean
        for point, fold in zip(new, own_fold, strict=True)
    ]
    return training, threshold, found


@pytest.mark.parametrize("weighted", [True, False])
def test_equals_the_formulae_computed_point_by_point(weighted):
    features, labels, sides, _ = random_project(patches=40)
    area = (learned if weighted else unweighted)(features, labels, sides)
    new = features.to_numpy(np.float64)[::5] + np.array([0.3, 20, 0.002, 1])
    own_fold = np.array([-1, 0, 1, 2, -1, 0, 1, 2])
    training, threshold, found = brute_force(features, area.weights, sides, new, own_fold)
    assert area.training == pytest.approx(training, rel=1e-5)
    assert area.threshold == pytest.approx(threshold, rel=1e-5)
    assert area.dissimilarity(new, own_fold) == pytest.approx(found, rel=1e-5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_training_patch_has_no_distance_to_itself_and_in_its_fold_that_of_its_training(seed):
    features, labels, sides, folds = random_project(seed=seed)
    area = unweighted(features, labels, sides)
    assert (area.dissimilarity(features.to_numpy()) == 0).all()
    own = area.dissimilarity(features.to_numpy(), folds)
    assert np.array_equal(own[np.argsort(folds, kind="stable")], area.training)
    assert (own > 0).all()
    assert area.threshold <= area.training.max()


def test_two_clusters_have_a_hole_between_them():
    random = np.random.default_rng(1)
    values = random.normal(size=(80, 3)) * 0.1
    values[40:] += 10
    features = table(values)
    area = learned(features, np.repeat(["a", "b"], 40), sides_of(features, np.arange(80) % 4))
    near, between, far = values[[3, 50]] + 0.05, np.full((1, 3), 5.0), np.full((1, 3), 100.0)
    assert (area.dissimilarity(near) <= area.threshold).all()
    assert (area.dissimilarity(np.concatenate([between, far])) > 3 * area.threshold).all()
    # half of the pairs are a diagonal apart, the other half next to nothing: the middle is about 1 mean away
    assert area.dissimilarity(between)[0] == pytest.approx(1, abs=0.1)


def test_a_cluster_in_one_fold_only_raises_the_threshold():
    """What was validated by unlike patches is known to the score: the cross-validation decides, not density."""
    random = np.random.default_rng(2)
    values = random.normal(size=(60, 2))
    values[30:] += 6
    features = table(values)
    mixed, apart = (sides_of(features, folds) for folds in (np.arange(60) % 2, np.arange(60) // 30))
    labels = np.repeat(["a", "b"], 30)
    thresholds = [unweighted(features, labels, sides).threshold for sides in (mixed, apart)]
    assert thresholds[1] > 3 * thresholds[0]


def test_units_of_the_features_do_not_matter():
    features, labels, sides, folds = random_project()
    scales = np.array([8, 0.25, 1024, 2], dtype=np.float32)  # powers of two: nothing is rounded
    area, scaled = (learned(f, labels, sides) for f in (features, features * scales))
    assert scaled.threshold == area.threshold
    new = features.to_numpy() * np.float32(1.5)
    assert np.array_equal(scaled.dissimilarity(new * scales, folds), area.dissimilarity(new, folds))


def test_a_patch_that_no_fold_trains_on_counts_for_nothing():
    features, labels, _, folds = random_project()
    buffer = [(fold, 5) for fold in range(3) if fold != folds[5]]
    sides = sides_of(features, folds, buffer)
    moved = features.copy()
    moved.iloc[5] = 1e6
    first, second = (learned(f, labels, sides) for f in (features, moved))
    assert first.summary() == second.summary()
    assert first.patches == 59
    listed = [side.drop("s/5") for side in sides]  # a test region is in no fold's list
    assert learned(moved, labels, listed).summary() == first.summary()


def test_what_a_fold_drops_into_its_buffer_is_no_neighbour_of_its_own():
    features = table([[0.0], [1.0], [3.0], [7.0]])
    sides = sides_of(features, [0, 0, 1, 2], buffer=[(0, 2)])
    area = unweighted(features, np.array(list("aabb")), sides)
    assert area.training == pytest.approx(np.array([7, 6, 2, 4]) * 6 / 23)


def test_a_constant_feature_is_left_out():
    features, labels, sides, folds = random_project()
    wider = features.assign(constant=np.float32(0.1))[["constant", *features.columns]]
    area, same = (learned(f, labels, sides) for f in (features, wider))
    assert same.names == area.names
    assert same.summary() == area.summary()
    new = wider.to_numpy() + np.float32(0.5)
    assert np.array_equal(same.dissimilarity(new, folds), area.dissimilarity(new[:, 1:], folds))


def test_features_that_tell_the_classes_weigh_more():
    features, labels, sides, _ = random_project(patches=200)
    weights = learned(features, labels, sides).weights
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 2 * weights[1:].max()
    assert (learned(features, np.full(200, "a"), sides).weights == 1).all()  # nothing to learn
    assert (unweighted(features, labels, sides).weights == 1).all()


def test_weights_matter():
    features, labels, sides, _ = random_project(patches=200)
    area = learned(features, labels, sides)
    step = features.to_numpy().std(axis=0)
    centre = features.to_numpy().mean(axis=0)
    telling, other = centre + 6 * step * [1, 0, 0, 0], centre + 6 * step * [0, 1, 0, 0]
    assert area.dissimilarity(telling[None])[0] > 2 * area.dissimilarity(other[None])[0]


def test_twice_is_the_same():
    features, labels, sides, _ = random_project()
    first, second = (learned(features, labels, sides).summary() for _ in range(2))
    assert first == second


def test_very_many_patches_are_sampled(monkeypatch):
    features, labels, sides, _ = random_project(patches=400)
    exact = unweighted(features, labels, sides)
    monkeypatch.setattr(applicability, "MOST_PATCHES", 300)
    sampled, again = (unweighted(features, labels, sides) for _ in range(2))
    assert (exact.patches, sampled.patches) == (400, 300)
    assert sampled.summary() == again.summary()
    assert (sampled.dissimilarity(features.to_numpy()) == 0).sum() == 300
    assert sampled.mean_distance == pytest.approx(exact.mean_distance, rel=0.05)
    assert len(sampled.training) == 300


def test_pairs_of_many_patches_are_sampled_without_bias(monkeypatch):
    features, labels, sides, _ = random_project(patches=50)
    exact = unweighted(features, labels, sides).mean_distance
    monkeypatch.setattr(applicability, "EXACT_PATCHES", 10)
    monkeypatch.setattr(applicability, "PAIRS", 200_000)
    sampled = unweighted(features, labels, sides).mean_distance
    assert sampled != exact
    assert sampled == pytest.approx(exact, rel=0.005)
    monkeypatch.setattr(applicability, "EXACT_PATCHES", 1)
    features = table([[0.0], [4.0]])  # the only pair: no patch is paired with itself
    two = unweighted(features, np.array(["a", "b"]), sides_of(features, [0, 1]))
    assert two.mean_distance == pytest.approx(np.sqrt(2))


def test_a_window_without_data_has_no_index():
    area = line_of_four()
    found = area.dissimilarity(np.array([[np.nan], [3.0], [np.nan]]), np.array([0, -1, 1]))
    assert np.array_equal(found, [np.nan, 0, np.nan], equal_nan=True)


@pytest.fixture
def scene(tmp_path):
    """A scene of noise with a corner without data, and patches on the windows of some cells of its map."""
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[:70, :93]
    values = {name: random.random((70, 93)).astype(np.float32) * rows * columns / 7000 for name in ("R", "N")}
    factories.write_raster(tmp_path / "s.tif", values, valid=~((rows < 24) & (columns < 24)))
    row, column = (part.ravel() for part in np.meshgrid(np.arange(4, 50, 8), np.arange(28, 76, 8), indexing="ij"))
    names = [f"s/{r}/{c}" for r, c in zip(row, column, strict=True)]
    patches = pandas.DataFrame({"patch": names, "scene": "s", "row": row, "column": column, "size_px": 16})
    patches["fold"] = np.arange(len(patches)) % 3
    return tmp_path, patches


def test_the_index_of_a_cell_is_that_of_the_window_around_it(scene):
    folder, patches = scene
    features = patch_features(patches, folder)
    area = learned(features, patches["column"] > 50, sides_of(features, patches["fold"].to_numpy()))
    rows, columns = (patches["row"] + 4) // 8, (patches["column"] + 4) // 8  # windows begin 4 px before their cell
    folds = np.full((9, 12), -1)
    folds[rows, columns] = patches["fold"]
    data = np.ones((9, 12), dtype=bool)
    data[:3, :3] = data[8, 11] = False
    with Raster.open(folder / "s.tif") as raster:
        own, ensemble = surveyed(raster, area, folds, data)
    for values in (own, ensemble):
        assert values.dtype == np.float32
        assert np.array_equal(np.isfinite(values), data)
    assert (ensemble[rows, columns] == 0).all()
    known = area.dissimilarity(features.to_numpy(), patches["fold"].to_numpy())
    assert np.array_equal(own[rows, columns], known)
    seen = np.zeros((9, 12), dtype=bool)
    seen[rows, columns] = True
    assert (ensemble[data & ~seen] > 0).all()
    assert np.array_equal(own[~seen], ensemble[~seen], equal_nan=True)
    inside = area.applicable(own)
    assert np.array_equal(inside[data], own[data] <= np.float32(area.threshold))
    assert np.array_equal(np.isnan(inside), ~data)


def surveyed(raster, area, folds, data, **sizes):
    """Both layers of the whole map, put together from its parts, which are asked for as they come."""
    asked = []

    sizes = sizes or {"stride_px": 8, "cell_px": 8}

    def part_of(values):
        return lambda window: asked.append(window) or values[window.toslices()]

    parts = list(map_dissimilarity(raster, area, part_of(folds), part_of(data), **sizes))
    assert asked == [part.window for part in parts for _ in range(2)]
    return (np.concatenate([getattr(part, name) for part in parts]) for name in ("out_of_fold", "ensemble"))


def test_the_index_of_a_pixel_is_that_of_the_window_around_its_block(scene):
    folder, patches = scene
    features = patch_features(patches, folder)
    area = learned(features, patches["column"] > 50, sides_of(features, patches["fold"].to_numpy()))
    random = np.random.default_rng(0)
    folds, data = random.integers(-1, 3, (70, 93)), random.random((70, 93)) < 0.7
    data[:24, :24] = False
    with Raster.open(folder / "s.tif") as raster:
        own, ensemble = surveyed(raster, area, folds, data, stride_px=4, cell_px=1)
        everywhere = np.ones((18, 24), dtype=bool)
        blocks = {-1: [], 0: [], 1: [], 2: []}
        for fold, found in blocks.items():
            found += surveyed(raster, area, np.full((18, 24), fold), everywhere, stride_px=4, cell_px=4)
    expected = np.full((70, 93), np.nan, dtype=np.float32)
    of_all = expected.copy()
    for row, column in zip(*data.nonzero(), strict=True):
        expected[row, column] = blocks[folds[row, column]][0][row // 4, column // 4]
        of_all[row, column] = blocks[-1][1][row // 4, column // 4]
    assert np.array_equal(own, expected, equal_nan=True)
    assert np.array_equal(ensemble, of_all, equal_nan=True)
    assert not np.array_equal(own, ensemble, equal_nan=True)


def test_a_map_without_data_has_no_index(scene):
    folder, patches = scene
    features = patch_features(patches, folder)
    area = learned(features, patches["column"] > 50, sides_of(features, patches["fold"].to_numpy()))
    with Raster.open(folder / "s.tif") as raster:
        own, ensemble = surveyed(raster, area, np.zeros((9, 12), dtype=int), np.zeros((9, 12), dtype=bool))
    assert np.isnan(own).all()
    assert np.isnan(ensemble).all()


def test_the_index_of_patches_on_the_threshold_is_inside():
    area = line_of_four()
    assert np.array_equal(area.applicable(area.training[None]), [[1, 1, 1, 1]])
    assert area.summary()["training_outside"] == 0


@pytest.mark.parametrize(
    ("values", "folds", "buffer", "message"),
    [
        ([[0.0], [1.0]], [0, 1], [(1, 0)], r"1 training patches; an area of applicability needs at least two"),
        ([[0.0], [np.nan], [2.0]], [0, 1, 1], [], r"patch s/1: not a valid pixel in data/normalized"),
        ([[1.0], [1.0], [1.0]], [0, 1, 1], [], r"all training patches have the same band statistics"),
        ([[0.0], [1.0], [2.0]], [0, 1, 2], [(0, 1), (0, 2)], r"fold 0 trains on no patch; lower zones.buffer_m"),
    ],
)
def test_refuses_patches_that_give_no_area(values, folds, buffer, message):
    features = table(values)
    with pytest.raises(ApplicabilityError, match=message):
        learned(features, np.array(["a"] * len(values)), sides_of(features, folds, buffer))


def test_refuses_folds_that_validate_nothing():
    features = table([[0.0], [1.0]])
    sides = [pandas.Series("train", index=features.index)]
    with pytest.raises(ApplicabilityError, match=r"no training patch is validated in any fold"):
        learned(features, np.array(["a", "b"]), sides)
