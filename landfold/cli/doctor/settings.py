"""Whether dvc.yaml can be read and params.yaml is what its owners take."""

import yaml

from landfold.cli.doctor.checkout import Checkout, Finding, load_yaml, same
from landfold.core.settings import SettingsError, read
from landfold.params import OWNERS, faults

READERS = {
    "dataset": "fetch",
    "ingest": "ingest",
    "indices": "indices",
    "normalize": "normalize",
    "labels": "patches",
    "patches": "patches",
    "zones": "zones",
    "audit": "audit",
    "model": "train@0",
    "train": "train@0",
    "evaluate": "evaluate",
    "export": "export",
    "colours": "evaluate",
    "card": "package",
}
"""Section: a stage that loads the whole of it by its owner's model; others' owners import no torch."""


def pipeline(checkout: Checkout) -> Finding:
    """dvc.yaml and dvc.lock are YAML with stages."""
    for name in ("dvc.yaml", "dvc.lock"):
        path = checkout.root / name
        try:
            content = load_yaml(path) if path.exists() else {"stages": {}}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            place = getattr(error, "problem_mark", None)
            line = f" (line {place.line + 1})" if place else ""
            mend = "git checkout HEAD -- dvc.lock, then dvc repro" if name == "dvc.lock" else "mend it there"
            return Finding("pipeline", "error", f"{name}: not valid YAML{line}", mend)
        if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
            return Finding("pipeline", "error", f"{name}: no stages", f"git checkout HEAD -- {name}")
    count = len(list(checkout.stage_names()))
    return Finding("pipeline", "ok", f"{count} stages in dvc.yaml")


def params(checkout: Checkout) -> Finding | list[Finding]:
    """Every section is taken by its owner.

    A section is not judged again if the last whole run had it as it is and its stage's code is the same: the
    owners of some import torch, which takes seconds.
    """
    try:
        content = read(checkout.root / "params.yaml")
    except SettingsError as error:
        return Finding("params", "error", str(error).replace(f"{checkout.root}/", ""), "mend it there")
    lines = faults(content, [s for s in OWNERS if not _proved(checkout, s)], where="params.yaml")
    if lines:
        return [Finding("params", "error", line, "change it in params.yaml") for line in lines]
    return Finding("params", "ok", f"{len(OWNERS)} sections are valid, {_folds(checkout)}")


def _folds(checkout: Checkout) -> str:
    k, folds = checkout.param("zones.k"), checkout.param("zones.folds")
    return f"{k} folds" if len(folds) == k else f"{len(folds)} folds, {k} in each repeat"


def _proved(checkout: Checkout, section: str) -> bool:
    """Whether the last whole run had this very section and this very code read it."""
    stage = READERS.get(section)
    last = checkout.lock.get("report", {}).get("params", {}).get("params.yaml", {})
    return (
        stage in checkout.lock
        and stage not in checkout.behind
        and section in last
        and same(last[section], checkout.params.get(section))
    )
