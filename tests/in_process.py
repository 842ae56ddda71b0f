"""All stages from raw data to maps in this process and the current folder, for tests of what they make together."""

import sys

import pytest

import stages.audit
import stages.evaluate
import stages.export
import stages.indices
import stages.ingest
import stages.normalize
import stages.patches
import stages.train
import stages.zones
from landfold.params import Params, read_params


def to_scores(monkeypatch: pytest.MonkeyPatch) -> Params:
    """Run everything up to the scores; the settings."""
    params = read_params()
    modules = (stages.ingest, stages.indices, stages.normalize, stages.patches, stages.zones, stages.audit)
    for module in modules:
        module.main(params)
    for fold in params.zones.folds:
        for split in ([], ["random"]):
            monkeypatch.setattr(sys, "argv", ["stages/train.py", str(fold), *split])
            stages.train.main(params)
    stages.evaluate.main(params)
    return params


def to_maps(monkeypatch: pytest.MonkeyPatch) -> Params:
    """Run everything up to the maps; the settings."""
    params = to_scores(monkeypatch)
    stages.export.main(params)
    return params
