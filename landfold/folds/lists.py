"""The files in data/folds/kK: lists of the patches of each fold and their index. Nothing else writes or reads them.

- fold_I.parquet and random_I.parquet, of a spatial and of a random fold: ``patch``, ``zone`` and ``side``, the role
  (train, validation, buffer or test) of every patch;
- patches.parquet: ``patch`` and the zone and fold of each repeat;
- zones.gpkg, for a GIS: a layer ``zones``, ``zones_1``, ... for each repeat, and ``test_region`` where there is one;
- index.json: the folds, and a digest of each list, by which a model that was trained on another list is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas

from landfold.core.digests import digest
from landfold.core.files import read_json, write_json
from landfold.folds.split import ROLES, TEST, FoldError, Split

if TYPE_CHECKING:
    import geopandas
    import shapely

KINDS = ("fold", "random")
"""Names of the lists: of spatial folds, and of the random ones that they are compared with."""


@dataclass(frozen=True)
class CrossValidationFolds:
    """All folds of all repeats.

    ``table`` has ``patch``, ``label``, ``geometry``, and ``zone`` and ``fold`` of every repeat (see `column`);
    ``spatial`` and ``random`` are the folds of whole zones and random ones of equal size, by their number: fold
    ``i`` belongs to repeat ``i // k``; ``zones`` has the table of zones of each repeat.
    """

    table: "geopandas.GeoDataFrame"
    spatial: Sequence[Split]
    random: Sequence[Split]
    zones: "Sequence[geopandas.GeoDataFrame]"

    @property
    def k(self) -> int:
        """Number of folds in a repeat."""
        return len(self.spatial) // len(self.zones)


def column(name: str, repeat: int) -> str:
    """The column of patches.parquet with the ``zone`` or ``fold`` of a repeat: ``zone``, ``zone_1``, ``zone_2``."""
    return f"{name}_{repeat}" if repeat else name


def write_folds(folder: Path, folds: CrossValidationFolds, test_region: "shapely.Geometry | None" = None) -> None:
    """Write all lists and their index into an empty folder; equal folds are equal bytes."""
    import geopandas  # library code reads lists, and needs no GeoPackages

    from landfold.geo.vector import write_geopackage

    table = folds.table
    columns = [column(name, repeat) for repeat in range(len(folds.zones)) for name in ("zone", "fold")]
    pandas.DataFrame(table[["patch", *columns]]).to_parquet(folder / "patches.parquet", index=False)
    digests: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for kind, splits in zip(KINDS, (folds.spatial, folds.random), strict=True):
        for fold, split in enumerate(splits):
            path = folder / f"{kind}_{fold}.parquet"
            zone = table[column("zone", fold // folds.k)]
            pandas.DataFrame({"patch": table["patch"], "zone": zone, "side": split.roles}).to_parquet(path, index=False)
            digests[kind][str(fold)] = digest(path)
    layers = {column("zones", i): zones for i, zones in enumerate(folds.zones)}
    if test_region is not None:
        layers["test_region"] = geopandas.GeoDataFrame(geometry=[test_region], crs=folds.zones[0].crs)
    write_geopackage(folder / "zones.gpkg", layers)
    index = {"k": folds.k, "repeats": len(folds.zones), "folds": list(range(len(folds.spatial)))}
    write_json(folder / "index.json", index | {"digests": digests["fold"], "random_digests": digests["random"]})


def read_fold_list(path: Path, patches: Sequence[str] | pandas.Series) -> pandas.DataFrame:
    """One list: columns ``patch``, ``zone`` and ``side``, in the order of the table of patches.

    Args:
        path: fold_I.parquet or random_I.parquet.
        patches: the ids in data/patches.parquet.

    Raises:
        FoldError: the list is absent, not of these patches, or has another role than those of `ROLES`.
    """
    if not path.is_file():
        raise FoldError(f"{path}: not found; expected the list of a fold; run dvc repro zones")
    table = pandas.read_parquet(path)
    if list(table["patch"]) != list(patches):
        raise FoldError(f"{path}: does not list the patches of data/patches.parquet; run dvc repro zones")
    unknown = sorted(set(table["side"]) - set(ROLES))
    if unknown:
        raise FoldError(
            f"{path}: column side has {', '.join(map(str, unknown))}; expected {', '.join(ROLES)}; run dvc repro zones"
        )
    return table


def read_fold(patches: Path, sides: Path) -> pandas.DataFrame:
    """The table of patches with the ``zone`` and ``side`` (train, validation, buffer or test) of one fold.

    Raises:
        FoldError: the list of the fold is absent or not of these patches.
    """
    table = pandas.read_parquet(patches)
    fold = read_fold_list(sides, table["patch"])
    return table.assign(zone=fold["zone"], side=fold["side"])


def read_assignment(folder: Path) -> pandas.DataFrame:
    """Columns ``patch`` and the zone and fold of every repeat (see `column`), as the zones stage made them."""
    return pandas.read_parquet(folder / "patches.parquet")


def read_test_region(folder: Path) -> "shapely.Geometry | None":
    """The test region in the project's CRS; None where there is none."""
    from landfold.geo.vector import layers, read_layer

    path = folder / "zones.gpkg"
    return read_layer(path, "test_region", setting="layer").geometry[0] if "test_region" in layers(path) else None


def read_split(path: Path, patches: Sequence[str] | pandas.Series) -> Split:
    """One list as masks; see `read_fold_list`."""
    return Split.of_roles(read_fold_list(path, patches)["side"].to_numpy(str))


@dataclass(frozen=True)
class FoldIndex:
    """What index.json says: fold ``i`` belongs to repeat ``i // k``, and the digests of each fold's lists."""

    path: Path
    k: int
    repeats: int
    folds: list[int]
    digests: dict[str, str]
    random_digests: dict[str, str]

    def list_of(self, kind: str, fold: int) -> Path:
        """The list of a fold of a kind of `KINDS`."""
        return self.path.with_name(f"{kind}_{fold}.parquet")

    def digest_of(self, kind: str, fold: int) -> str | None:
        """The digest of a list; None where there is none."""
        return (self.random_digests if kind == "random" else self.digests).get(str(fold))

    def check_card(self, card: Path, fold: int, trained_on: str, kind: str = "fold") -> None:
        """Refuse the model of a fold that was trained on another list than this index has.

        Args:
            card: path of its model.json.
            fold: number of the fold.
            trained_on: the ``fold_digest`` in model.json.
            kind: of `KINDS`.

        Raises:
            FoldError: the model is stale.
        """
        split = str(self.digest_of(kind, fold))
        if trained_on != split:
            raise FoldError(
                f"{card}: fold {fold} is stale: it was trained on split {trained_on[:12]}, but the zones stage has "
                f"made split {split[:12]}; {self.retrain(fold, kind)}"
            )

    @staticmethod
    def retrain(fold: int, kind: str = "fold") -> str:
        """How to train the model of one fold again."""
        stage = "random" if kind == "random" else "train"
        return f"run `dvc repro --force --single-item {stage}@{fold}`"


def read_index(folder: Path) -> FoldIndex:
    """The index of the folds in ``folder``.

    Raises:
        FoldError: there is none, or it is of another version of Landfold.
    """
    path = folder / "index.json"
    if not path.is_file():
        raise FoldError(f"{path}: not found, so there are no folds for this zones.k; run `dvc repro zones`")
    content = read_json(path)
    try:
        return FoldIndex(path, **content)
    except TypeError:
        raise FoldError(
            f"{path}: has {', '.join(sorted(content))}: another version of Landfold wrote it; run `dvc repro zones`"
        ) from None


def fold_of_zone(assigned: pandas.DataFrame) -> dict[str, int]:
    """The first repeat's fold of every zone, from patches.parquet; without zones that are test region alone."""
    folded = assigned[assigned["fold"] != TEST]
    return dict(zip(folded["zone"], folded["fold"].tolist(), strict=True))
