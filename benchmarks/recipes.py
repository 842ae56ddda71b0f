"""Recipes compared on inner folds: ``python -m benchmarks.recipes FILE``, after ``dvc repro``.

FILE is YAML: a name for each recipe, and its changes of the sections ``model`` and ``train``. For every pair of folds a
network is trained on the zones of neither, and scored on the labelled pixels and the patches of both. The score of a
recipe for outer fold i is pooled over all other folds j, each predicted by the network that saw neither i nor j. So
a choice made by it for fold i uses no label of fold i. Prints a table in Markdown: the scores pooled over all pairs,
and which folds would choose the recipe, by the mean of both macro F1 and both accuracies.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import yaml

from landfold.folds.lists import fold_of_zone, read_assignment
from landfold.network.dataset import ArrayExamples
from landfold.network.distributed import launch
from landfold.network.model import Classifier, build
from landfold.network.pixel_examples import predict_fold
from landfold.network.settings import ModelSettings, TrainSettings
from landfold.network.training import FoldData, fit
from landfold.params import Params, read_params
from landfold.pixels.folds import FoldFiles, FoldPixels
from landfold.pixels.rows import LabelledScenes, PixelRows, collect, draw, trainable, usable_pixels
from landfold.scores.metrics import accuracy, macro_f1
from stages.train import card_of


@dataclass(frozen=True)
class Recipe:
    """A named change of the settings."""

    name: str
    model: ModelSettings
    train: TrainSettings


def recipes(path: Path, params: Params) -> list[Recipe]:
    """The recipes of a file."""
    found = []
    for name, changes in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        model, train = (
            type(section).model_validate(section.model_dump() | (changes or {}).get(key, {}))
            for key, section in (("model", params.model), ("train", params.train))
        )
        found.append(Recipe(name, model, train))
    return found


def pair_of_folds(params: Params, scenes: LabelledScenes, first: int, second: int) -> FoldPixels:
    """The labelled pixels of all zones but those of two folds, which are held out."""
    files = [
        FoldFiles(Path("data"), fold, "fold", params.patches.core_px, params.zones, params.project.metric_crs)
        for fold in (first, second)
    ]
    tables = [part.table() for part in files]
    grounds = [part.pixels(table, scenes).ground for part, table in zip(files, tables, strict=True)]
    ground = replace(
        grounds[0].with_zones(grounds[1].zones),
        footprints=np.concatenate([part.footprints for part in grounds]),
    )
    held_out = np.logical_or(*(table["side"] == "validation" for table in tables))
    table = tables[0].assign(side=np.where(held_out, "validation", "train"))
    return FoldPixels(scenes, table, ground, params.patches.core_px)


def train(recipe: Recipe, rows: PixelRows, params: Params, channels: list[str], number: int) -> Classifier:
    """A network of a recipe that has learned from the rows."""
    own = params.model_copy(update={"model": recipe.model, "train": recipe.train})
    files = FoldFiles(Path("data"), 0, "fold", params.patches.core_px, params.zones, params.project.metric_crs)
    card = card_of(own, files, channels).model_copy(update={"fold": number})
    fabric = launch(recipe.train, params.machine.device, fold=number)
    network = build(recipe.model, channels, len(card.classes))
    network.learn_bins(rows.features)
    nothing = ArrayExamples(rows.features[:0], rows.labels[:0])
    fit(
        network,
        FoldData(number, len(card.classes), ArrayExamples(rows.features, rows.labels), nothing),
        recipe.train,
        fabric,
    )
    return Classifier(network, card, str(fabric.device))


def predictions(params: Params, chosen: list[Recipe]) -> Iterator[tuple[str, int, int, Any]]:
    """Recipe, both folds of a pair, and what was predicted of them."""
    scenes = LabelledScenes.of(Path("data/normalized"), Path("data/labels"))
    for first, second in combinations(range(params.zones.k), 2):
        pixels, rows = pair_of_folds(params, scenes, first, second), {}
        masks = draw(usable_pixels(scenes, trainable(pixels.ground)), params.train.max_pixels, seed=(first, second))
        for recipe in chosen:
            boxes = tuple(recipe.model.boxes_px)
            if boxes not in rows:
                rows = {boxes: collect(scenes, masks, pixels.ground, boxes)}
            model = train(recipe, rows[boxes], params, scenes.channels, 10 * first + second)
            yield recipe.name, first, second, predict_fold(model, pixels)
            print(".", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    params = read_params()
    classes, chosen = params.labels.names, recipes(parser.parse_args().file, params)
    assigned = read_assignment(Path(f"data/folds/k{params.zones.k}"))
    fold_of, of_zone = assigned.set_index("patch")["fold"], fold_of_zone(assigned)
    parts: dict[str, list[tuple[int, str, pandas.DataFrame]]] = {recipe.name: [] for recipe in chosen}
    for name, first, second, found in predictions(params, chosen):
        patches = found.validation.assign(fold=fold_of.loc[found.validation["patch"]].to_numpy(), pixels=1)
        pixels = found.pixels.assign(fold=found.pixels["zone"].map(of_zone))
        for unit, table in (("patches", patches), ("pixels", pixels)):
            for outer, inner in ((first, second), (second, first)):
                parts[name].append((outer, unit, table[table["fold"] == inner]))
    print(table_of(parts, classes, params.zones.k))


def table_of(parts: Mapping[str, list[tuple[int, str, pandas.DataFrame]]], classes: list[str], k: int) -> str:
    """The table in Markdown."""
    of_fold = {
        name: [_scores([part for part in own if part[0] == outer], classes) for outer in range(k)]
        for name, own in parts.items()
    }
    best = [max(of_fold, key=lambda name, outer=outer: np.mean(of_fold[name][outer])) for outer in range(k)]
    lines = [
        "| recipe | pixels: accuracy | macro F1 | patches: accuracy | macro F1 | chosen for fold |",
        "|---|---|---|---|---|---|",
    ]
    for name, own in parts.items():
        values = " | ".join(f"{value:.3f}".lstrip("0") for value in _scores(own, classes))
        lines.append(f"| {name} | {values} | {', '.join(str(i) for i in range(k) if best[i] == name)} |")
    return "\n".join(lines)


def _scores(parts: list[tuple[int, str, pandas.DataFrame]], classes: list[str]) -> list[float]:
    """Accuracy and macro F1 of pixels, then of patches."""
    number = {name: i for i, name in enumerate(classes)}
    values: list[float] = []
    for unit in ("pixels", "patches"):
        table = pandas.concat([part for _, kind, part in parts if kind == unit])
        counts = np.zeros((len(classes), len(classes)))
        np.add.at(counts, (table["label"].map(number), table["predicted"].map(number)), table["pixels"])
        values += [float(accuracy(counts)), float(macro_f1(counts))]
    return values


if __name__ == "__main__":
    main()
