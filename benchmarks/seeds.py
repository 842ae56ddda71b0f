"""The network under several seeds against its baseline: ``python -m benchmarks.seeds [-n 3]``, after ``dvc repro``.

Trains the networks of all spatial folds under other seeds, and compares them with the audit's baseline of pixels
on the same held-out pixels and patches. The baseline's model is chosen and tuned on inner zones of each fold. Prints a
table in Markdown: accuracy and macro F1 of each seed, then the differences to the baseline with their 95 % intervals,
paired over zones, of the mean over the seeds; their standard deviation over the seeds widens the interval.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas
import torch

from landfold.folds.lists import read_assignment
from landfold.network.distributed import distributed
from landfold.network.examples import read_examples
from landfold.network.fold import HeldOutPredictions, train_fold
from landfold.params import Params, read_params
from landfold.pixels.folds import FoldFiles
from landfold.scores.intervals import compare
from landfold.scores.metrics import HEADLINE
from landfold.scores.sentences import with_interval
from stages.train import card_of

AUDIT = Path("data/audit")
SHOWN = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def held_out(params: Params, fold: int, seed: int) -> HeldOutPredictions:
    """What the network of a fold says of what the fold holds out, trained under a seed."""
    train = params.train.model_copy(update={"seed": seed})
    files = FoldFiles(Path("data"), fold, "fold", params.patches.core_px, params.zones, params.project.metric_crs)
    with (
        tempfile.TemporaryDirectory() as scratch,
        distributed(train, params.machine.device, fold=fold) as fabric,
        read_examples(
            files,
            params.model,
            train,
            lambda channels: card_of(params, files, channels),
            fabric,
            params.machine,
            Path(scratch),
        ) as (examples, card),
    ):
        return train_fold(examples, card, train, fabric).predictions


def counts_by_zone(table: pandas.DataFrame, zones: list[str], classes: list[str]) -> np.ndarray:
    """(zone, class, class) counts of a table with zone, label, predicted and pixels."""
    number = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(zones), len(classes), len(classes)))
    place = table["zone"].map({name: i for i, name in enumerate(zones)})
    np.add.at(counts, (place, table["label"].map(number), table["predicted"].map(number)), table["pixels"])
    return counts


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=3, help="number of seeds")
    number, params = parser.parse_args().n, read_params()
    torch.set_num_threads(1)
    classes, seeds = params.labels.names, [params.train.seed + 1000 * i for i in range(number)]
    zone_of = read_assignment(Path(f"data/folds/k{params.zones.k}")).set_index("patch")["zone"]
    found: dict[str, list[pandas.DataFrame]] = {"pixels": [], "patches": []}
    for seed in seeds:
        parts = [held_out(params, fold, seed) for fold in range(params.zones.k)]
        print(".", end="", file=sys.stderr, flush=True)
        patches = pandas.concat([part.validation for part in parts])
        found["patches"].append(patches.assign(zone=zone_of.loc[patches["patch"]].to_numpy(), pixels=1))
        found["pixels"].append(pandas.concat([part.pixels for part in parts]))
    baseline = pandas.read_parquet(AUDIT / "pixel_baseline_patches.parquet")
    label_of = found["patches"][0].set_index("patch")["label"]
    baseline = baseline.assign(zone=zone_of.loc[baseline["patch"]].to_numpy(), pixels=1)
    baseline["label"] = label_of.loc[baseline["patch"]].to_numpy()
    of_baseline = {"patches": baseline, "pixels": pandas.read_parquet(AUDIT / "pixel_baseline_pixels.parquet")}
    print("| | " + " | ".join(f"{unit}: {name}" for unit in found for name in SHOWN.values()) + " |")
    print("|---|" + "---|" * 2 * len(SHOWN))
    rows: dict[str, list[str]] = {}
    for unit, tables in found.items():
        zones = sorted(set(of_baseline[unit]["zone"]))
        first = counts_by_zone(of_baseline[unit], zones, classes)
        networks = np.stack([counts_by_zone(table, zones, classes) for table in tables], axis=1)
        scores = {name: HEADLINE[name](networks.sum(axis=0)) for name in SHOWN}
        extra = {name: float(values.std(ddof=1)) if number > 1 else 0.0 for name, values in scores.items()}
        _, _, difference = compare(np.repeat(first[:, None], number, axis=1), networks, extra)
        rows.setdefault("baseline", []).extend(f"{HEADLINE[name](first.sum(axis=0)):.3f}" for name in SHOWN)
        for i, seed in enumerate(seeds):
            rows.setdefault(f"network, seed {seed}", []).extend(f"{scores[name][i]:.3f}" for name in SHOWN)
        rows.setdefault("mean of the networks less baseline", []).extend(
            with_interval(difference[name], signed=True) for name in SHOWN
        )
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
