"""Folds: whole zones to folds, a buffer between training and validation, and the proof that it holds."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from landfold.core.digests import digest
from landfold.core.files import read_json, write_json
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import SIDES, TEST, FoldError, Split, deal, random_split, share_ground, split_fold
from landfold.folds.zones import United, Zones, make_zones, zone_table
from landfold.geo.vector import write_geopackage

TINY_TEST = 5
"""A fold with fewer validation patches is flagged, as in blockCV's cv_summary (min_test)."""

IMBALANCE = 0.25
"""A class in a fold with less than this share of its even part is flagged, as in blockCV's cv_summary."""

_BATCH = 256
"""Random assignments at a time: 10,000 tries of 5,000 zones then take 20 MB. The result does not depend on it."""


@dataclass(frozen=True)
class Folding:
    """All folds of all repeats.

    ``table`` has ``patch``, ``label``, ``geometry``, and ``zone`` and ``fold`` of every repeat (see `column`);
    ``splits`` and ``randoms`` are the zoned folds and the random ones of equal size, by their number;
    ``zones`` has the table of zones of each repeat.
    """

    table: geopandas.GeoDataFrame
    splits: list[Split]
    randoms: list[Split]
    zones: list[geopandas.GeoDataFrame]


def column(name: str, repeat: int) -> str:
    """The column of patches.parquet with the ``zone`` or ``fold`` of a repeat: ``zone``, ``zone_1``, ``zone_2``."""
    return f"{name}_{repeat}" if repeat else name


def fold_patches(
    patches: geopandas.GeoDataFrame,
    settings: ZoneSettings,
    test: np.ndarray,
    areas: geopandas.GeoDataFrame | None = None,
) -> Folding:
    """Zones, folds and splits of every repeat.

    Args:
        patches: data/patches.parquet.
        settings: section ``zones``.
        test: (patch,) bool, those in the test region, as `landfold.folds.zones.in_test_region` gives them.
        areas: the polygons of kind polygons, as `landfold.folds.zones.read_areas` gives them.

    Raises:
        FoldError: what `assign_folds` and `split_fold` refuse, or joined zones that are fewer than the folds.
        ZoneError: patches without a zone.
    """
    table, labels = patches.copy(), patches["label"].to_numpy()
    footprints = patches.geometry.to_numpy()
    splits, randoms, zones = [], [], []
    for repeat in range(settings.repeats):
        rule: Zones = make_zones(settings, patches, areas, repeat=repeat)
        if settings.overlaps == "join":
            rule = _joined(rule, rule.of(patches)[~test], footprints[~test], settings.k)
        zone, fold = rule.of(patches), np.full(len(patches), TEST)
        fold[~test] = settings.k * repeat + assign_folds(zone[~test], labels[~test], settings, repeat=repeat)
        numbers = range(settings.k * repeat, settings.k * (repeat + 1))
        table[column("zone", repeat)], table[column("fold", repeat)] = zone, fold
        splits += [split_fold(footprints, fold, i, settings.buffer_m) for i in numbers]
        dealt = deal(labels, test, settings.k, seed=(settings.seed, repeat))
        for i in numbers:
            size = int(splits[i].train.sum())
            randoms.append(random_split(dealt, i % settings.k, size, seed=(settings.seed, repeat, i)))
        zones.append(zone_table(zone, fold, rule, patches.crs, footprints=footprints))
    return Folding(table, splits, randoms, zones)


def _joined(rule: Zones, zones: np.ndarray, footprints: np.ndarray, k: int) -> Zones:
    """The rule with those zones made one whose patches share ground."""
    name_of = unite(zones, footprints)
    left = len(set(name_of.values()))
    if left < k:
        raise FoldError(
            f"zones.overlaps: join leaves {left} of {len(name_of)} zones, too few for {k} folds: patches that share "
            "ground connect the others; set patches.stride_px to patches.size_px or more, raise zones.block_size_m, "
            "lower zones.k, or set zones.overlaps: buffer"
        )
    return United(rule, name_of)


def unite(zones: np.ndarray, footprints: np.ndarray) -> dict[str, str]:
    """The zone that each zone becomes when zones with patches that share ground are made one.

    Ground counts in any scene and at any date, and through any number of patches in between. A zone made of
    several is called by the first of their names and how many more there are: ``E1N7+2``.
    """
    names, number = np.unique(zones.astype(str), return_inverse=True)
    first, second = shapely.STRtree(footprints).query(footprints, predicate="intersects")
    across = (first < second) & (number[first] != number[second])
    first, second = first[across], second[across]
    shared = share_ground(footprints[first], footprints[second])
    links = (np.ones(int(shared.sum())), (number[first[shared]], number[second[shared]]))
    _, component = connected_components(coo_array(links, shape=(len(names), len(names))), directed=False)
    members = pandas.Series(names).groupby(component).agg(["min", "size"])
    united = [f"{name}+{size - 1}" if size > 1 else name for name, size in members.to_numpy()]
    return {name: united[part] for name, part in zip(names.tolist(), component, strict=True)}


def assign_folds(zones: np.ndarray, labels: np.ndarray, settings: ZoneSettings, *, repeat: int = 0) -> np.ndarray:
    """The fold of every patch, 0 to k - 1, int64; patches of one zone are in one fold.

    Repeats deal anew: stratified and balanced with the seed plus the repeat's number, group at random instead
    of by size where the kind's zones are the same in all repeats.

    Raises:
        FoldError: fewer zones than folds, every class with fewer patches than folds, or a fold that would be empty.
    """
    count = len(np.unique(zones.astype(str)))
    if count < settings.k:
        raise FoldError(
            f"{count} zones cannot make {settings.k} folds; lower zones.k (and zones.folds) or zones.block_size_m"
            if settings.block_size_m is not None
            else f"{count} zones cannot make {settings.k} folds; lower zones.k (and zones.folds) or make more zones"
        )
    if settings.assignment == "balanced":
        return _balanced(zones, labels, settings, repeat)
    if settings.assignment == "stratified":
        largest = int(np.unique(labels.astype(str), return_counts=True)[1].max())
        if largest < settings.k:
            raise FoldError(
                f"the largest class has {largest} patches, too few to be in each of {settings.k} folds; "
                "lower zones.k (and zones.folds) or set zones.assignment: group"
            )
        splitter = StratifiedGroupKFold(settings.k, shuffle=True, random_state=settings.seed + repeat)
    elif repeat and settings.kind in ("scene", "label", "polygons"):
        splitter = GroupKFold(settings.k, shuffle=True, random_state=settings.seed + repeat)
    else:
        splitter = GroupKFold(settings.k)
    folds = np.full(len(zones), -1, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # `cautions` says which, and what follows
        for fold, (_, validation) in enumerate(splitter.split(np.zeros(len(zones)), labels, zones)):
            folds[validation] = fold
    empty = sorted(set(range(settings.k)) - set(folds.tolist()))
    if empty:
        raise FoldError(
            f"fold {empty[0]} has no patch: {count} zones of very unequal size; lower zones.k (and zones.folds), "
            "lower zones.block_size_m, or set zones.assignment: group"
        )
    return folds


def _balanced(zones: np.ndarray, labels: np.ndarray, settings: ZoneSettings, repeat: int) -> np.ndarray:
    """The best of ``tries`` random assignments, each of which gives every fold as many zones, to one.

    The score, lower is better, is chi-squared: the sum over folds, over the classes and all patches together,
    of (patches in the fold - even part) squared, divided by the even part, which is the class's patches / k.
    Equal scores: the earlier try.
    """
    number = np.unique(zones.astype(str), return_inverse=True)[1]
    kind = np.unique(labels.astype(str), return_inverse=True)[1]
    counts = np.zeros((number.max() + 1, kind.max() + 2))
    np.add.at(counts, (number, kind), 1)
    counts[:, -1] = counts.sum(axis=1)
    even = counts.sum(axis=0) / settings.k
    generator = np.random.default_rng((settings.seed, repeat))
    best, least = np.zeros(len(counts), dtype=np.int64), np.inf
    for start in range(0, settings.tries, _BATCH):
        size = min(_BATCH, settings.tries - start)
        dealt = generator.permuted(np.tile(np.arange(len(counts)) % settings.k, (size, 1)), axis=1)
        scores = sum((((dealt == fold) @ counts - even) ** 2 / even).sum(axis=1) for fold in range(settings.k))
        winner = int(np.argmin(scores))
        if scores[winner] < least:
            best, least = dealt[winner], scores[winner]
    return best[number]


def write_folds(
    folder: Path,
    table: geopandas.GeoDataFrame,
    splits: Sequence[Split],
    *zones: geopandas.GeoDataFrame,
    randoms: Sequence[Split] = (),
) -> None:
    """Write what training and evaluation read, and the fold map for a GIS, into an empty folder.

    ``table`` and ``zones``, one table a repeat, are as in `Folding`. Fold ``i`` of all repeats belongs to repeat
    ``i // k``. fold_i.parquet and random_i.parquet have ``patch``, ``zone`` and ``side``; patches.parquet has
    ``patch`` and the zone and fold of each repeat; zones.gpkg has a layer ``zones``, ``zones_1``, ... for each.
    ``index.json`` lists the folds and holds a digest of every fold's file, by which evaluation
    knows a model that was trained on other folds.
    """
    k = len(splits) // len(zones)
    columns = [column(name, repeat) for repeat in range(len(zones)) for name in ("zone", "fold")]
    pandas.DataFrame(table[["patch", *columns]]).to_parquet(folder / "patches.parquet", index=False)
    digests: dict[str, dict[str, str]] = {"fold": {}, "random": {}}
    for kind, found in (("fold", splits), ("random", randoms)):
        for fold, split in enumerate(found):
            path = folder / f"{kind}_{fold}.parquet"
            sides = {"patch": table["patch"], "zone": table[column("zone", fold // k)], "side": split.sides}
            pandas.DataFrame(sides).to_parquet(path, index=False)
            digests[kind][str(fold)] = digest(path)
    layers = {column("zones", repeat): areas for repeat, areas in enumerate(zones)}
    write_geopackage(folder / "zones.gpkg", layers)
    index = {"k": k, "repeats": len(zones), "folds": list(range(len(splits)))}
    write_json(folder / "index.json", index | {"digests": digests["fold"], "random_digests": digests["random"]})


@dataclass(frozen=True)
class FoldIndex:
    """What index.json says: fold ``i`` belongs to repeat ``i // k``, and the digests of each fold's files."""

    path: Path
    k: int
    repeats: int
    folds: list[int]
    digests: dict[str, str]
    random_digests: dict[str, str]

    def check_card(self, card: Path, fold: int, trained_on: str, kind: str = "fold") -> None:
        """Refuse the model of a fold that was trained on another split than this index lists.

        ``card`` is the path of its model.json, ``trained_on`` the ``fold_digest`` in it, and ``kind`` the kind of
        its split: fold (zoned) or random.

        Raises:
            FoldError: the model is stale.
        """
        split = (self.random_digests if kind == "random" else self.digests)[str(fold)]
        if trained_on != split:
            raise FoldError(
                f"{card}: fold {fold} is stale: it was trained on split {trained_on[:12]}, but the zones stage has "
                f"made split {split[:12]}; {self.retrain(fold, kind)}"
            )

    @staticmethod
    def retrain(fold: int, kind: str = "fold") -> str:
        """What mends the model of one fold."""
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


def check_folds(folder: Path, patches: geopandas.GeoDataFrame, settings: ZoneSettings, test: np.ndarray) -> None:
    """Prove on the written files, read back, what the folds promise.

    Distances are taken anew, between footprints whose circles around their bounds come near, and not from
    the index of bounds that has made the splits.

    Raises:
        FoldError: other patches or sides than there should be, a zone in two folds, or both trained on and
            validated; a patch not validated exactly once in a repeat or by another fold than its own, or test
            patches in a fold; training that shares ground with validation or test patches or is within the
            buffer; random folds that do not validate every patch once or have more training than the zoned
            ones; a digest that is not that of its file.
    """
    index = read_index(folder)
    assigned = pandas.read_parquet(folder / "patches.parquet")
    footprints = patches.geometry.to_numpy()
    _require(index.folds == settings.folds and index.k == settings.k, f"{index.path}: folds {index.folds}")
    _require(list(assigned["patch"]) == list(patches["patch"]), "patches.parquet lists other patches")
    validated = {kind: np.zeros((settings.repeats, len(patches)), dtype=int) for kind in ("fold", "random")}
    for repeat in range(settings.repeats):
        _check_zones(assigned[column("zone", repeat)], assigned[column("fold", repeat)].where(~test))
    for fold in index.folds:
        repeat = fold // settings.k
        zone, own = assigned[column("zone", repeat)], assigned[column("fold", repeat)]
        _require(((own == TEST) == test).all(), "patches.parquet: its test patches are not those of the region")
        sizes = {}
        for kind in ("fold", "random"):
            path = folder / f"{kind}_{fold}.parquet"
            recorded = index.digests if kind == "fold" else index.random_digests
            _require(recorded.get(str(fold)) == digest(path), f"{path.name} has another digest than index.json")
            sides = pandas.read_parquet(path)
            _require(list(sides["patch"]) == list(patches["patch"]), f"{path.name} lists other patches")
            _require((sides["zone"] == zone).all(), f"{path.name} has other zones")
            side = sides["side"].to_numpy(str)
            strange = int((~np.isin(side, SIDES)).sum())
            _require(strange == 0, f"{path.name}: {strange} patches are on no side")
            _require(((side == "test") == test).all(), f"{path.name}: its test patches are not those of the region")
            validated[kind][repeat] += side == "validation"
            sizes[kind] = int((side == "train").sum())
            if kind == "fold":
                _require(((side == "validation") == (own == fold)).all(), f"{path.name} validates another fold")
                shared = set(zone[side == "train"]) & set(zone[side == "validation"])
                _require(not shared, f"fold {fold} trains on and validates zone {min(shared, default='')}")
                held_out = np.isin(side, ("validation", "test"))
                _check_apart(fold, footprints[side == "train"], footprints[held_out], settings.buffer_m)
        _require(0 < sizes["random"] <= sizes["fold"], f"random_{fold}.parquet trains on {sizes['random']} patches")
    for kind, times in validated.items():
        wrong = int((times != ~test).sum())
        _require(wrong == 0, f"{kind} lists: {wrong} patches are not validated exactly once")


def _check_zones(zones: pandas.Series, folds: pandas.Series) -> None:
    """``folds`` is NaN in the test region."""
    folds_of_zone = folds.groupby(zones).nunique()
    _require(folds_of_zone.max() <= 1, f"zone {folds_of_zone.idxmax()} is in {folds_of_zone.max()} folds")


def _check_apart(fold: int, train: np.ndarray, held_out: np.ndarray, buffer_m: float) -> None:
    (centres, radius), (others, other_radius) = _circles(train), _circles(held_out)
    near = KDTree(centres).sparse_distance_matrix(
        KDTree(others), (radius + other_radius + buffer_m) * (1 + 1e-9), output_type="ndarray"
    )
    first, second = train[near["i"]], held_out[near["j"]]
    close = shapely.distance(first, second) <= buffer_m if buffer_m > 0 else share_ground(first, second)
    _require(
        not close.any(),
        f"fold {fold}: {int(close.sum())} pairs of training and held-out footprints share ground or lie within "
        f"zones.buffer_m = {buffer_m:g} m",
    )


def _circles(footprints: np.ndarray) -> tuple[np.ndarray, float]:
    """Centres of the bounds, (footprint, 2), and the radius within which all of every footprint lies."""
    bounds = shapely.bounds(footprints).reshape(-1, 2, 2)
    return bounds.mean(axis=1), float(np.hypot(*(bounds[:, 1] - bounds[:, 0]).T).max(initial=0) / 2)


def _require(kept: bool, broken: str) -> None:
    if not kept:
        raise FoldError(f"{broken}; this is a fault of Landfold")


def fold_flags(train: np.ndarray, validation: np.ndarray) -> list[list[str]]:
    """What is wrong with each fold of a repeat, from its counts, both (fold, class).

    As blockCV's cv_summary has them: ``single_class_test``: validation patches of one class alone;
    ``class_missing_train``: a class that training lacks; ``tiny_test``: fewer than TINY_TEST validation patches;
    ``imbalance``: a class with less than IMBALANCE of its even part of the validation patches, where that part
    is 2 or more and the class is not absent.
    """
    even = validation.sum(axis=0) / len(validation)
    scarce = (validation > 0) & (validation < IMBALANCE * even) & (even >= 2)
    found = {
        "single_class_test": ((validation > 0).sum(axis=1) <= 1) & (validation.shape[1] > 1),
        "class_missing_train": (train == 0).any(axis=1),
        "tiny_test": validation.sum(axis=1) < TINY_TEST,
        "imbalance": scarce.any(axis=1),
    }
    return [[name for name, flagged in found.items() if flagged[fold]] for fold in range(len(validation))]


def summarize(table: geopandas.GeoDataFrame, splits: Sequence[Split], *, repeats: int = 1) -> dict[str, Any]:
    """Counts for metrics/folds.json: patches on each side of every fold, zones, classes validated, and flags."""
    k = len(splits) // repeats
    names, number = np.unique(table["label"].to_numpy(str), return_inverse=True)
    folds: dict[str, dict[str, Any]] = {}
    for repeat in range(repeats):
        zone, mine = table[column("zone", repeat)], splits[k * repeat : k * (repeat + 1)]
        train, held_out = (
            np.stack([np.bincount(number[getattr(split, side)], minlength=len(names)) for split in mine])
            for side in ("train", "validation")
        )
        flags = fold_flags(train, held_out)
        for i, split in enumerate(mine):
            folds[str(k * repeat + i)] = {
                "zones": int(zone[split.validation].nunique()),
                "train": int(split.train.sum()),
                "validation": int(split.validation.sum()),
                "buffer": int(split.buffer.sum()),
                "classes": dict(zip(names.tolist(), held_out[i].tolist(), strict=True)),
                "flags": flags[i],
            }
    return {
        "k": k,
        "repeats": repeats,
        "zones": int(table["zone"].nunique()),
        "test": int((table["fold"] == TEST).sum()),
        "folds": folds,
    }


def cautions(folding: Folding, settings: ZoneSettings) -> list[str]:
    """What the user should know of folds that are sound, beside the flags of `summarize`."""
    found = []
    if settings.kind == "kmeans":
        found.append("zones.kind: kmeans: new patches move every zone, and results before and after do not compare")
    folded = folding.table[folding.table["fold"] != TEST]
    for repeat in range(settings.repeats):
        which = f"repeat {repeat}: " if settings.repeats > 1 else ""
        zones_of_class = folded.groupby("label")[column("zone", repeat)].nunique()
        for name, zones in zones_of_class[zones_of_class < settings.k].items():
            lost = "the fold that validates it has not learned it" if zones == 1 else "not every fold validates it"
            found.append(f"{which}zones with class {name}: {zones}, fewer than folds: {lost}")
    pairs = zip(folding.splits, folding.randoms, strict=True)
    fewer = [str(fold) for fold, (zoned, random) in enumerate(pairs) if random.train.sum() < zoned.train.sum()]
    if fewer:
        found.append(
            f"the random splits of fold {', '.join(fewer)} train on all other patches, fewer than the zoned fold does"
        )
    return found
