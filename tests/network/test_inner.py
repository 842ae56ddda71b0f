import numpy as np
import pandas
import pytest
import shapely

from landfold.folds.split import FoldError
from landfold.network.errors import TrainingError
from landfold.network.inner import inner_split


def blocks(rows: int = 6, columns: int = 8, *, side_m: float = 10.0) -> pandas.DataFrame:
    """Patches 10 m apart in a grid; each 2 x 2 of them are a zone."""
    row, column = (part.ravel() for part in np.mgrid[:rows, :columns])
    x, y = 400_000 + 10 * column, 5_800_000 - 10 * row
    table = {
        "patch": [f"s/{r}/{c}" for r, c in zip(row, column, strict=True)],
        "label": np.where((row // 2 + column // 2) % 3 == 0, "water", "field"),
        "zone": [f"E{c // 2}N{r // 2}" for r, c in zip(row, column, strict=True)],
        "geometry": shapely.to_wkb(shapely.box(x, y - side_m, x + side_m, y)),
    }
    return pandas.DataFrame(table)


def test_inner_patches_are_whole_training_zones_of_all_classes():
    table = blocks()
    train = np.arange(48) % 8 < 6
    learn, choose = inner_split(table, train, parts=3, seed=0)
    assert np.array_equal(learn | choose, train)
    assert not (learn & choose).any()
    assert not set(table["zone"][learn]) & set(table["zone"][choose])
    assert choose.sum() == pytest.approx(train.sum() / 3, abs=4)
    assert set(table["label"][choose]) == {"water", "field"}


def test_patches_that_share_ground_with_inner_ones_are_in_neither():
    table = blocks(side_m=15)
    train = np.ones(48, dtype=bool)
    learn, choose = inner_split(table, train, parts=3, seed=0)
    footprints = shapely.from_wkb(table["geometry"].to_numpy(object))
    first, second = (shapely.union_all(footprints[side]) for side in (learn, choose))
    assert shapely.area(shapely.intersection(first, second)) == 0
    dropped = train & ~learn & ~choose
    assert dropped.any()
    for footprint in footprints[dropped]:
        assert shapely.area(shapely.intersection(footprint, second)) > 0


def test_only_the_training_patches_and_the_seed_decide():
    table = blocks()
    train = np.arange(48) % 8 < 6
    split = inner_split(table, train, parts=3, seed=0)
    other = table.copy()
    other.loc[~train, ["label", "zone"]] = ["lava", "nowhere"]
    assert all(map(np.array_equal, split, inner_split(other, train, parts=3, seed=0)))
    seeds = [inner_split(table, train, parts=3, seed=seed)[1].tobytes() for seed in range(8)]
    assert len(set(seeds)) > 1


def test_refuses_too_few_zones():
    with pytest.raises(TrainingError, match=r"12 training zones cannot make 13 inner folds; lower train.inner_folds"):
        inner_split(blocks(), np.ones(48, dtype=bool), parts=13, seed=0)


def test_refuses_inner_patches_that_share_ground_with_all_others():
    with pytest.raises(FoldError, match=r"all .* training patches lie within"):
        inner_split(blocks(side_m=500), np.ones(48, dtype=bool), parts=2, seed=0)
