"""The model registry: a model folder becomes a version of a registered model, and the alias moves on evidence only.

The rule: the alias ``champion`` moves to a new version if its spatial CV accuracy, pooled over all held-out patches, is
higher than the champion's and their 95 % intervals do not overlap. Models of pixels are scored on the patches, too, so
that they can be compared with models of patches. Where they overlap, or the two were scored on
different data, nothing shows that the new one is better, and a person decides by ``promote``. A version whose score is
not higher never takes the alias.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landfold.core.digests import digest, file_sha256
from landfold.core.errors import LandfoldError
from landfold.deploy.bundlecard import BundleCard, Score, bundle_digest, read_card
from landfold.deploy.serving.mlflow_model import save_mlflow_model
from landfold.tracking import sqlite_file, store_uri
from landfold.tracking.library import explained_errors, load_mlflow
from landfold.tracking.origin import COMMIT, origin
from landfold.tracking.runs import COMPLETE, FOLD_DIGEST, PARENT
from landfold.tracking.store import connect, experiment_id

PREFIX = "landfold."


class RegistryError(LandfoldError):
    """A model that is not to be registered."""


@dataclass(frozen=True)
class Candidate:
    """A version of the registry, or (version 0) the model that is to become one."""

    bundle_digest: str
    data_digest: str
    accuracy: Score
    version: int = 0

    def __str__(self) -> str:
        """The accuracy and its interval, such as 0.7134 (0.6564 to 0.7613)."""
        score = self.accuracy
        return f"{score.pooled:.4f} ({score.low:.4f} to {score.high:.4f})"


@dataclass(frozen=True)
class Verdict:
    """Whether the alias moves, and why, as a sentence."""

    moves: bool
    reason: str


def judge(new: Candidate, champion: Candidate | None, *, promote: bool = False, other_data: bool = False) -> Verdict:
    """Apply the rule of this module.

    Raises:
        RegistryError: data differ without ``other_data``, or a model is to be promoted whose score is not higher.
    """
    score = f"spatial CV accuracy of patches {new}"
    if champion is None:
        return Verdict(True, f"{score}; there was no champion")
    other = f"version {champion.version}"
    if new.data_digest != champion.data_digest:
        if not other_data:
            raise RegistryError(
                f"the model's data digest is {new.data_digest[:12]}, that of {other}, the champion, "
                f"{champion.data_digest[:12] or 'unknown'}: their scores are of different patches or folds and cannot "
                "be compared; train both on the same data, or add --other-data"
            )
        tail = "the alias moves, as you say" if promote else "--promote moves the alias"
        return Verdict(
            promote,
            f"{score}, not comparable with {other}, which is of other data; {tail}",
        )
    if new.accuracy.pooled <= champion.accuracy.pooled:
        if promote:
            raise RegistryError(f"{score} is not higher than that of {other}, {champion}: leave --promote out")
        return Verdict(False, f"{score} is not higher than that of {other}, {champion}")
    if new.accuracy.low > champion.accuracy.high:
        return Verdict(True, f"{score} is higher than that of {other}, {champion}")
    tail = "the alias moves, as you say" if promote else "--promote moves the alias all the same"
    return Verdict(promote, f"{score} is not distinguishable from that of {other}, {champion}; {tail}")


def register(
    model: Path,
    *,
    name: str | None = None,
    alias: str = "champion",
    promote: bool = False,
    other_data: bool = False,
    dry_run: bool = False,
    root: Path | None = None,
) -> str:
    """Register a model folder in the registry of the tracking store, and move the alias by the rule.

    Args:
        model: the model folder.
        name: of the registered model; None: the project's name.
        alias: the champion's.
        promote: move the alias where the rule leaves it to a person.
        other_data: register although the champion is of other data.
        dry_run: say what would happen, and write nothing.
        root: the checkout whose MLflow store is meant; None: the current folder.

    Returns:
        What was done, in a sentence or two.

    Raises:
        RegistryError: refused by the rule.
        TrackingError: the store does not answer or cannot be used.
        BundleError: ``model`` is no model folder.
    """
    card = read_card(model)
    name = _checked_name(name, card)
    if "accuracy" not in card.zoned:
        raise RegistryError(f"{model}: its card has no spatial CV accuracy to compare by; run `dvc repro`")
    _check_whole(model)
    root = (root or Path.cwd()).resolve()
    uri = store_uri(root)
    new = Candidate(bundle_digest(model), card.data_digest, card.zoned["accuracy"])
    with explained_errors(uri):
        client = _client(uri, create=not dry_run)
        versions, champion = _versions(client, name, alias)
        known = next((version.version for version in versions if version.bundle_digest == new.bundle_digest), None)
        if known and (not promote or (champion and known == champion.version)):
            return f"{name}: registered already as version {known}; nothing was done"
        verdict = judge(new, champion, promote=promote, other_data=other_data)
        if dry_run:
            version = known or 1 + max((version.version for version in versions), default=0)
        else:
            version = known or _create(client, model, name, root, uri)
            if verdict.moves:
                client.set_registered_model_alias(name, alias, str(version))
    done = _DONE[bool(known), dry_run]
    return f"{name}: {done} as version {version}, {'the' if verdict.moves else 'not the'} {alias}: {verdict.reason}"


_DONE = {
    (False, False): "registered",
    (False, True): "would be registered",
    (True, False): "registered already",
    (True, True): "would stay",
}
"""By whether the model is registered already, and whether nothing is to be written."""


def _checked_name(name: str | None, card: BundleCard) -> str:
    name = name or re.sub(r"[^\w.-]+", "-", card.name)
    if not re.fullmatch(r"[\w.][\w. -]*", name):
        raise RegistryError(f"--name {name!r}: expected letters, digits, '_', '-', '.' and spaces")
    return name


def _check_whole(model: Path) -> None:
    from landfold.deploy.bundle import Bundle  # not at the top: torch takes seconds, which other refusals save

    Bundle.load(model)


def _client(uri: str, *, create: bool) -> Any:
    """A client of the store; None where there is no database yet and none is to be made."""
    file = sqlite_file(uri)
    return None if file and not create and not file.is_file() else connect(uri)


def _versions(client: Any, name: str, alias: str) -> tuple[list[Candidate], Candidate | None]:
    """All versions of a registered model, and the one with the alias."""
    from mlflow.exceptions import MlflowException

    versions = [_candidate(version) for version in client.search_model_versions(f"name='{name}'")] if client else []
    if not versions:
        return [], None
    try:
        holder = int(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter: no such alias
            raise
        return versions, None
    return versions, next((version for version in versions if version.version == holder), None)


def _candidate(version: Any) -> Candidate:
    tags = {name.removeprefix(PREFIX): value for name, value in version.tags.items() if name.startswith(PREFIX)}
    try:
        score = Score(**{end: float(tags[f"accuracy_{end}"]) for end in ("pooled", "low", "high")})
        return Candidate(tags["bundle_digest"], tags["data_digest"], score, int(version.version))
    except (KeyError, ValueError):  # one that someone registered by other means: no scores that could be compared
        return Candidate("", "", Score(pooled=0, low=0, high=0), int(version.version))


def _create(client: Any, model: Path, name: str, root: Path, uri: str) -> int:
    """Log the model, whole or not at all, and make a version of it."""
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    card = read_card(model)
    experiment = experiment_id(client, uri, card.name, root)
    parent = _parent(client, experiment, model, card)
    run_id = parent.info.run_id if parent else None
    tags = _tags(model, card, parent, root)
    logged = client.create_logged_model(experiment, "landfold", run_id, tags, model_type="landfold")
    try:
        with tempfile.TemporaryDirectory(prefix="landfold-") as folder:
            described = Model(
                artifact_path=logged.artifact_location, model_uuid=logged.model_id, model_id=logged.model_id
            )
            save_mlflow_model(model, Path(folder) / "model", mlflow_model=described)
            client.log_model_artifacts(logged.model_id, f"{folder}/model")
        client.finalize_logged_model(logged.model_id, "READY")
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        with _as_global(uri):
            made = client.create_model_version(name, logged.model_uri, run_id, tags, model_id=logged.model_id)
    except BaseException:
        client.delete_logged_model(logged.model_id)
        raise
    return int(made.version)


@contextmanager
def _as_global(uri: str) -> Iterator[None]:
    """MLflow's registry in a database looks a logged model up in the global store, not in its client's."""
    mlflow = load_mlflow()
    earlier = os.environ.get("MLFLOW_TRACKING_URI")  # MLflow keeps a global store there, too
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # which empties the variable, too
        if earlier is not None:
            os.environ["MLFLOW_TRACKING_URI"] = earlier


def _tags(model: Path, card: BundleCard, parent: Any, root: Path) -> dict[str, str]:
    """Digests and scores by which a version is compared, and the commit."""
    tags = {"bundle_digest": bundle_digest(model), "data_digest": card.data_digest, "params_digest": card.params_digest}
    tags["unit"] = card.unit
    for metric in ("accuracy", "macro_f1"):
        if metric in card.zoned:
            tags |= {f"{metric}_{end}": str(getattr(card.zoned[metric], end)) for end in ("pooled", "low", "high")}
        if metric in (card.zoned_pixels or {}):
            tags[f"pixel_{metric}_pooled"] = str(card.zoned_pixels[metric].pooled)
    known = parent.data.tags if parent else {}
    commit = known.get(COMMIT) or origin(root, "landfold register").get(COMMIT)
    return {f"{PREFIX}{key}": value for key, value in tags.items()} | ({COMMIT: commit} if commit else {})


def _parent(client: Any, experiment: str, model: Path, card: BundleCard) -> Any:
    """The MLflow run of the result that the model is from, found by its folds' digests; None: not in the store."""
    folds = [model.parent / f"k{card.k}" / f"fold_{fold}" for fold in range(len(card.weights))]
    for folder, weights in zip(folds, card.weights, strict=True):
        file = folder / "model.safetensors"
        if not file.is_file() or file_sha256(file) != weights:
            return None
    shared: set[str] | None = None
    for folder in folds:
        runs = client.search_runs([experiment], f"tags.`{FOLD_DIGEST}` = '{digest(folder)}'")
        parents = {run.data.tags[PARENT] for run in runs if PARENT in run.data.tags}
        shared = parents if shared is None else shared & parents
    candidates = [client.get_run(run_id) for run_id in sorted(shared or ())]
    whole = [
        run for run in candidates if run.info.lifecycle_stage == "active" and run.data.tags.get(COMPLETE) == "true"
    ]
    return max(whole, key=lambda run: run.info.start_time, default=None)
