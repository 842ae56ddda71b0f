"""Patches as the examples of a fold: the network of kind classifier learns one class of each."""

import numpy as np
import pandas

from landfold.network.card import ModelCard
from landfold.network.dataset import ArrayExamples
from landfold.network.errors import TrainingError
from landfold.network.fold import FoldExamples, HeldOutPredictions, predictions_table
from landfold.network.model import Classifier
from landfold.network.settings import TrainSettings
from landfold.network.training import FoldData

PREDICT_CHUNK = 4096
"""Windows that are copied at once for predictions; a multiple of the batch of `Classifier.probabilities`."""


class PatchExamples(FoldExamples):
    """The patches of a fold with their windows."""

    what = "patch"

    def __init__(self, table: pandas.DataFrame, windows: np.ndarray, card: ModelCard, settings: TrainSettings) -> None:
        """Take the patches by their side.

        Args:
            table: patches with ``label`` and ``side``, as `landfold.folds.lists.read_fold` returns them; for early
                stopping also with ``zone`` and ``geometry``.
            windows: (patch, channel, y, x) float32 in the order of the table.
            card: classes and number of the fold.
            settings: how to train.

        Raises:
            TrainingError: labels that are not classes of the card; see also `inner_split`.
        """
        labels = class_numbers(table, card.classes)
        train, validation, test = ((table["side"] == side).to_numpy() for side in ("train", "validation", "test"))
        inner = None
        if settings.early_stopping is not None:
            from landfold.network.inner import inner_split  # scikit-learn takes a second to import

            train, inner = inner_split(table, train, parts=settings.inner_folds, seed=settings.seed + card.fold)
        self._table, self._windows, self._sides = table, windows, (validation, test)
        self.arrays = (windows, labels, train, validation)
        self.data = FoldData(
            card.fold,
            len(card.classes),
            ArrayExamples(windows, labels, train),
            ArrayExamples(windows, labels, validation),
            None if inner is None else ArrayExamples(windows, labels, inner),
        )

    def predict(self, classifier: Classifier) -> HeldOutPredictions:
        """Predict the patches that the fold holds out."""
        return HeldOutPredictions(*(self._predict(classifier, side) for side in self._sides))

    def _predict(self, classifier: Classifier, chosen: np.ndarray) -> pandas.DataFrame:
        rows = np.flatnonzero(chosen)
        chunks = np.split(rows, range(PREDICT_CHUNK, len(rows), PREDICT_CHUNK))
        probabilities = np.concatenate([classifier.probabilities(self._windows[chunk]) for chunk in chunks])
        return predictions_table(self._table[chosen], probabilities, classifier.card.classes)


def class_numbers(table: pandas.DataFrame, classes: list[str]) -> np.ndarray:
    """Number of each patch's class, (patch,) int64.

    Raises:
        TrainingError: a class that is not among them.
    """
    unknown = sorted(set(table["label"]) - set(classes))
    if unknown:
        raise TrainingError(f"patches of class {', '.join(unknown)}; the model has {', '.join(classes)}")
    return table["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
