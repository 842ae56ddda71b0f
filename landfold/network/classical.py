"""Classical models of scikit-learn as a module of torch: saved, served and exported as a network is, without pickles.

All pixels walk down the decision trees side by side. Thresholds are rounded down to float32: a float32 feature then
takes the branch that it takes in scikit-learn, which compares in float64.
"""

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from torch import nn

from landfold.classical.selection import ChosenModel, fit_best
from landfold.network.callbacks import Row
from landfold.pixels.rows import PixelRows

NEVER = -50.0
"""Score of a class that was not learned, and the logarithm of a share of votes of 0: e to its power is 0 in float32."""


class ClassicalNetwork(nn.Module):
    """Class scores of pixels from their features: a linear part and the sum of the leaves of decision trees.

    The leaves of boosting are scores. Those of a forest are shares of its votes, whose logarithm is the score.
    """

    SIZED_BY_THE_MODEL = ("roots", "feature", "threshold", "below", "leaves")

    def __init__(self, features: int, classes: int) -> None:
        """A model without trees; `take` or ``load_state_dict`` give it a trained one."""
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, features))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("votes", torch.zeros((), dtype=torch.bool))
        self.register_buffer("roots", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("feature", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(0))
        self.register_buffer("below", torch.zeros(0, 2, dtype=torch.int64))
        self.register_buffer("leaves", torch.zeros(0, classes))
        self.depth = 0

    def take(self, model: ClassifierMixin) -> None:
        """Take over a trained model: boosting, a forest, or logistic regression behind a scaler.

        Its ``classes_`` are numbers of classes. A class that it has not seen is never predicted.
        """
        arrays = _arrays(model)
        seen, state = torch.from_numpy(np.asarray(model.classes_, dtype=np.int64)), self.state_dict()
        state["bias"] = torch.full_like(state["bias"], NEVER)
        state["bias"][seen] = torch.from_numpy(arrays.pop("bias").astype(np.float32))
        if "weight" in arrays:
            state["weight"][seen] = torch.from_numpy(arrays.pop("weight").astype(np.float32))
        if "leaves" in arrays:
            leaves = torch.from_numpy(arrays.pop("leaves").astype(np.float32))
            state["leaves"] = leaves.new_zeros(len(leaves), len(self.bias)).index_copy_(1, seen, leaves)
        self.load_state_dict(state | {name: torch.from_numpy(np.asarray(values)) for name, values in arrays.items()})

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Class scores of pixels, (n, feature) to (n, class)."""
        scores = nn.functional.linear(rows, self.weight)
        if self.depth:
            node = self.roots.expand(len(rows), -1)
            for _ in range(self.depth):
                above = rows.gather(1, self.feature[node]) > self.threshold[node]
                node = self.below[node, above.long()]
            scores = scores + self.leaves[node].sum(dim=1)
        return torch.where(self.votes, scores.log().clamp_min(NEVER), scores) + self.bias

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Class scores of pixels side by side, (n, feature, y, x) to (n, class, y, x)."""
        n, count, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).reshape(-1, count)
        return self(rows).reshape(n, height, width, -1).permute(0, 3, 1, 2)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        for name in self.SIZED_BY_THE_MODEL:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *others)
        self.depth = self._checked_depth()

    def _checked_depth(self) -> int:
        """How many steps lead from a root to the farthest leaf.

        Raises:
            RuntimeError: the nodes are not those of trees, as in a file that is damaged.
        """
        roots, feature, below = (part.numpy(force=True) for part in (self.roots, self.feature, self.below))
        count = len(below)
        own = np.arange(count)[:, None]
        is_leaf = (below == own).all(axis=1, keepdims=True)
        if not (
            {len(feature), len(self.threshold), len(self.leaves)} == {count}
            and (is_leaf | (below > own)).all()  # so that every way ends
            and all(((part >= 0) & (part < end)).all() for part, end in ((roots, count), (below, count)))
            and ((feature >= 0) & (feature < self.weight.shape[1])).all()
        ):
            raise RuntimeError("the nodes of its decision trees do not fit together")
        depth, now = 0, roots
        while len(now := below[now[below[now, 0] != now]].ravel()):
            depth += 1
        return depth


def fit_classical(
    network: ClassicalNetwork, learning: PixelRows, held_out: PixelRows, *, seed: int
) -> tuple[ChosenModel, Row]:
    """Choose and train a classical model, and give it to the network.

    Args:
        network: takes the model over.
        learning: pixels to learn from.
        held_out: pixels whose loss and accuracy are reported.
        seed: of the choice and the model.

    Returns:
        The model, and a row of the history: loss and accuracy of both.
    """
    chosen = fit_best(learning.features, learning.labels, learning.zones, seed=seed)
    network.take(chosen.model)
    row: Row = {"epoch": 1}
    for name, part in (("train", learning), ("validation", held_out)):
        row |= {f"{name}_{key}": value for key, value in _scores(chosen.model, part).items()}
    return chosen, row


def _scores(model: ClassifierMixin, rows: PixelRows) -> dict[str, float]:
    if not len(rows):
        return {"loss": 0.0, "accuracy": 0.0}
    position = np.full(rows.labels.max() + 1, -1)
    known = model.classes_[model.classes_ < len(position)]
    position[known] = np.arange(len(known))
    shares = np.concatenate([model.predict_proba(rows.features), np.zeros((len(rows), 1))], axis=1)
    likelihood = np.maximum(shares[np.arange(len(rows)), position[rows.labels]], np.exp(NEVER))
    right = model.classes_[shares[:, :-1].argmax(axis=1)] == rows.labels
    return {"loss": float(-np.log(likelihood).mean()), "accuracy": float(right.mean())}


def _arrays(model: ClassifierMixin) -> dict[str, np.ndarray]:
    """The buffers of `ClassicalNetwork` for a trained model, with a column for each class that it has seen."""
    if isinstance(model, HistGradientBoostingClassifier):
        return _boosting(model)
    if hasattr(model, "estimators_"):
        return _forest(model)
    if isinstance(model, DummyClassifier):
        return {"bias": np.zeros(1)}
    scaler, last = model[0], model[-1]
    if not isinstance(last, LogisticRegression):
        raise TypeError(f"no form in torch for {type(last).__name__}")
    weight = last.coef_ / scaler.scale_
    bias = last.intercept_ - weight @ scaler.mean_
    return {"weight": _both(weight), "bias": _both(bias)}


def _both(values: np.ndarray) -> np.ndarray:
    """Scores of both classes where scikit-learn has those of the second alone."""
    return np.concatenate([np.zeros_like(values), values]) if len(values) == 1 else values


def _boosting(model: HistGradientBoostingClassifier) -> dict[str, np.ndarray]:
    trees = [(column, tree.nodes) for stage in model._predictors for column, tree in enumerate(stage)]
    bias = _both(model._baseline_prediction.ravel().astype(np.float64))
    columns = len(bias) - len(model._predictors[0])  # of two classes only the second has trees
    parts = []
    for column, nodes in trees:
        leaf = nodes["is_leaf"].astype(bool)
        values = np.zeros((len(nodes), len(bias)))
        values[leaf, column + columns] = nodes["value"][leaf]
        children = np.stack([nodes["left"], nodes["right"]], axis=1).astype(np.int64)
        parts.append((nodes["feature_idx"], nodes["num_threshold"], children, leaf, values))
    return _joined(parts) | {"bias": bias}


def _forest(model: Any) -> dict[str, np.ndarray]:
    parts = []
    for estimator in model.estimators_:
        tree = estimator.tree_
        leaf = tree.children_left < 0
        values = np.where(leaf[:, None], tree.value[:, 0], 0) / len(model.estimators_)
        parts.append(
            (tree.feature, tree.threshold, np.stack([tree.children_left, tree.children_right], 1), leaf, values)
        )
    return _joined(parts) | {"bias": np.zeros(len(model.classes_)), "votes": np.array(True)}


def _joined(trees: list[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
    """The nodes of all trees in one list; both children of a leaf are itself."""
    sizes = [len(leaf) for *_, leaf, _ in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    features, thresholds, children, leaves, values = (list(part) for part in zip(*trees, strict=True))
    leaf, own = np.concatenate(leaves), np.arange(sum(sizes))[:, None]
    linked = np.concatenate([part + root for part, root in zip(children, roots, strict=True)])
    return {
        "roots": roots,
        "feature": np.where(leaf, 0, np.concatenate(features)).astype(np.int64),
        "threshold": _rounded_down(np.where(leaf, 0, np.concatenate(thresholds))),
        "below": np.where(leaf[:, None], own, linked).astype(np.int64),
        "leaves": np.concatenate(values),
    }


def _rounded_down(values: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
