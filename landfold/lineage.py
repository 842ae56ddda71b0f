"""What a result was made from, in digests that are the same on every machine and at every time."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

DATA_DIGESTS = ("patches_digest", "statistics_digest", "fold_digest")


def data_digest(cards: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the data that a result's folds learned from and were scored on, from their model.json.

    It is of the labelled patches, the statistics of the scenes' pixels, and the sides of every fold. Zoned scores are
    comparable where it is equal; settings of the network and the training do not bear on it.

    Args:
        cards: the content of model.json of each fold, in the order of the folds.
    """
    return _sha256([[card[name] for name in DATA_DIGESTS] for card in cards])


def model_digest(weights: Iterable[str]) -> str:
    """SHA-256 of a model, from those of the weights of its folds, in their order: the tag MODEL_SHA256 of its maps."""
    return _sha256(list(weights))


def params_digest(params: Mapping[str, Any]) -> str:
    """SHA-256 of settings, whatever their order in the file."""
    return _sha256(params)


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
