import geopandas
import numpy as np
import pandas
import pytest

from landfold.core.digests import digest
from landfold.core.files import write_json
from landfold.folds.lists import CrossValidationFolds, read_fold_list, read_index, read_split, write_folds
from landfold.folds.split import FoldError
from landfold.folds.zones import Blocks, zone_table
from tests.factories import CRS_UTM33, read_json, tree
from tests.folds.layouts import folded, splits_of, zone_settings


def written(folder, settings, seed=1):
    table = folded(seed, settings)
    splits = splits_of(table, settings)
    folder.mkdir()
    rule = Blocks(settings.block_size_m, settings.origin_m)
    areas = zone_table(table["zone"].to_numpy(), table["fold"].to_numpy(), rule, CRS_UTM33)
    write_folds(folder, CrossValidationFolds(table, splits, [], [areas]))
    return table, splits


def test_the_written_folds_are_what_training_reads(tmp_path):
    settings = zone_settings(3, block_size_m=100, buffer_m=5)
    table, splits = written(tmp_path / "k3", settings)
    index = read_json(tmp_path / "k3" / "index.json")
    assert (index["k"], index["folds"]) == (3, [0, 1, 2])
    patches = pandas.read_parquet(tmp_path / "k3" / "patches.parquet")
    assert patches.equals(pandas.DataFrame(table[["patch", "zone", "fold"]]).astype(patches.dtypes))
    for fold, split in enumerate(splits):
        path = tmp_path / "k3" / f"fold_{fold}.parquet"
        sides = pandas.read_parquet(path)
        assert list(sides["patch"]) == list(table["patch"])
        for name in ("train", "validation", "buffer"):
            np.testing.assert_array_equal(sides["side"] == name, getattr(split, name))
        assert index["digests"][str(fold)] == digest(path)
    zones = geopandas.read_file(tmp_path / "k3" / "zones.gpkg", layer="zones")
    assert zones["patches"].sum() == len(table)
    assert zones.crs == CRS_UTM33


def test_equal_folds_are_equal_bytes_and_other_folds_have_other_digests(tmp_path):
    settings = zone_settings(3, block_size_m=100)
    written(tmp_path / "one", settings)
    written(tmp_path / "two", settings)
    written(tmp_path / "buffered", settings.model_copy(update={"buffer_m": 9.0}))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    one, other = (read_json(tmp_path / name / "index.json")["digests"] for name in ("one", "buffered"))
    assert all(one[fold] != other[fold] for fold in "012")


def test_an_index_that_is_absent_or_of_another_version_is_refused(tmp_path):
    with pytest.raises(FoldError, match=r"index\.json: not found, so there are no folds for this zones\.k; run `dvc"):
        read_index(tmp_path)
    write_json(tmp_path / "index.json", {"k": 2, "folds": [0, 1], "digests": {}})
    with pytest.raises(FoldError, match=r"index\.json: has digests, folds, k: another version of Landfold wrote it"):
        read_index(tmp_path)


def test_a_model_of_another_split_is_refused(tmp_path):
    written(tmp_path / "k3", zone_settings(3, block_size_m=100))
    index = read_index(tmp_path / "k3")
    index.check_card(tmp_path / "model.json", 1, index.digests["1"])
    with pytest.raises(FoldError, match=r"model\.json: fold 1 is stale: it was trained on split 0{12}, .*train@1`"):
        index.check_card(tmp_path / "model.json", 1, "0" * 64)


def test_a_list_that_is_absent_or_of_other_patches_or_roles_is_refused(tmp_path):
    table, (first, *_) = written(tmp_path / "k3", zone_settings(3, block_size_m=100))
    path = tmp_path / "k3/fold_0.parquet"
    np.testing.assert_array_equal(read_split(path, table["patch"]).train, first.train)
    with pytest.raises(
        FoldError, match=r"fold_0\.parquet: does not list the patches of data/patches\.parquet; run dvc"
    ):
        read_fold_list(path, table["patch"][::-1])
    with pytest.raises(
        FoldError, match=r"fold_7\.parquet: not found; expected the list of a fold; run dvc repro zones"
    ):
        read_fold_list(path.with_name("fold_7.parquet"), table["patch"])
    read_fold_list(path, table["patch"]).assign(side="both").to_parquet(path)
    with pytest.raises(FoldError, match=r"column side has both; expected train, validation, buffer, test; run dvc"):
        read_fold_list(path, table["patch"])
