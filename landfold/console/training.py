"""What a training says on the terminal. Stages do not depend on it, so that a change of a message trains nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from landfold.console.progress import bar


def fold_name(fold: int, *, is_random: bool) -> str:
    """A fold in words."""
    return f"fold {fold}, random split" if is_random else f"fold {fold}"


def usage(last: int) -> str:
    """How to call the stage; ``last`` is the highest number of a fold."""
    return f"expected the number of a fold, 0 to {last}: python -m stages.train FOLD [random]"


def switched_off(name: str) -> str:
    """The closing sentence where no network is trained under random folds."""
    return f"{name}: off (audit.network: false)"


@contextmanager
def step_bar(name: str) -> Iterator[Callable[[Any], None]]:
    """A progress bar, to be called with each `landfold.network.callbacks.Step`."""
    with bar(f"train {name}") as update:
        yield lambda step: update(step.fraction, step_note(step))


def step_note(step: Any) -> str:
    """State of a training beside its progress bar."""
    where = f"epoch {step.epoch}/{step.epochs} batch {step.batch}/{step.batches}"
    return f"{where} loss {step.loss:.3f} {step.rate:.0f} examples/s"


def notice(text: str) -> None:
    """Write a notice to stderr, above the progress bar if there is one."""
    tqdm.write(f"train: {text}", file=sys.stderr)


def closing(name: str, examples: int, epochs: int, predictions: Any) -> str:
    """The closing sentence: what was learned from, epochs, and how much that is held out is predicted correctly.

    Args:
        name: of the fold.
        examples: number of training examples.
        epochs: number of epochs.
        predictions: `landfold.network.fold.HeldOutPredictions`.
    """
    patches, pixels = predictions.validation, predictions.pixels
    right = (patches["label"] == patches["predicted"]).mean()
    of_patches = f"{right:.3f} of {len(patches)} held-out patches right"
    if pixels is None:
        return f"{name}: {examples} patches, {epochs} epochs; {of_patches}"
    pixels = pixels[pixels["split"] != "random pixels"]
    right = pixels["pixels"][pixels["label"] == pixels["predicted"]].sum() / max(1, pixels["pixels"].sum())
    of_pixels = f"{right:.3f} of {pixels['pixels'].sum()} held-out pixels right"
    return f"{name}: {examples} pixels, {epochs} epochs; {of_pixels}, {of_patches}"
