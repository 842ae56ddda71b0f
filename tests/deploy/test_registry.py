"""The registry on real sqlite databases: what is registered, when the alias moves, and what is refused."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from landfold import tracking
from landfold.core.digests import digest
from landfold.deploy.bundle import Bundle
from landfold.deploy.bundlecard import Score
from landfold.deploy.registry import Candidate, RegistryError, judge, register
from landfold.deploy.serving.mlflow_model import example_request
from landfold.tracking.library import UnreachableStoreError, load_mlflow
from tests.served import make_bundle, sha


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """An empty MLflow database: making one takes seconds."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    tracking.create_database(file)
    return file


@pytest.fixture
def root(empty, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty, tmp_path / "mlflow.db")
    return tmp_path


def client_of(root):
    return load_mlflow().MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def holder(root, alias="champion"):
    return int(client_of(root).get_model_version_by_alias("meadows", alias).version)


def candidate(pooled, low, high, version=3, data="d"):
    return Candidate(f"b{version}", data, Score(pooled=pooled, low=low, high=high), version)


OLD = candidate(0.7, 0.65, 0.75)


def test_the_alias_moves_on_evidence_only():
    assert judge(candidate(0.5, 0.4, 0.6, 0), None).moves
    clear = judge(candidate(0.8, 0.76, 0.85, 0), OLD)
    assert clear.moves
    assert clear.reason == (
        "spatial CV accuracy of patches 0.8000 (0.7600 to 0.8500) is higher than that of version 3, "
        "0.7000 (0.6500 to 0.7500)"
    )
    unclear = judge(candidate(0.71, 0.66, 0.76, 0), OLD)
    assert not unclear.moves
    assert "is not distinguishable from that of version 3" in unclear.reason
    assert judge(candidate(0.71, 0.66, 0.76, 0), OLD, promote=True).moves
    for pooled in (0.7, 0.6):
        assert not judge(candidate(pooled, 0.5, 0.8, 0), OLD).moves
        with pytest.raises(RegistryError, match=r"is not higher than that of version 3.*leave --promote out"):
            judge(candidate(pooled, 0.5, 0.8, 0), OLD, promote=True)


def test_scores_on_other_data_are_not_compared():
    other = candidate(0.9, 0.85, 0.95, 0, data="other")
    with pytest.raises(RegistryError, match=r"digest is other, that of version 3, the champion, d: .*--other-data"):
        judge(other, OLD)
    told = judge(other, OLD, other_data=True)
    assert not told.moves
    assert "not comparable with version 3" in told.reason
    assert judge(candidate(0.1, 0.0, 0.2, 0, data="other"), OLD, other_data=True, promote=True).moves


def test_a_model_is_registered_once_and_loads_by_its_alias(root, monkeypatch):
    model = make_bundle(root / "models/landfold")
    told = "spatial CV accuracy of patches 0.7000 (0.6000 to 0.8000); there was no champion"
    assert register(model) == f"meadows: registered as version 1, the champion: {told}"
    assert register(model) == "meadows: registered already as version 1; nothing was done"
    assert register(model, promote=True) == "meadows: registered already as version 1; nothing was done"
    client = client_of(root)
    (version,) = client.search_model_versions("name='meadows'")
    bundle = Bundle.load(model)
    tags = {name.removeprefix("landfold."): value for name, value in version.tags.items()}
    assert (tags["bundle_digest"], tags["data_digest"]) == (bundle.digest, sha("a"))
    assert [tags[f"accuracy_{end}"] for end in ("pooled", "low", "high")] == ["0.7", "0.6", "0.8"]
    assert tags["macro_f1_pooled"] == "0.5"
    shutil.rmtree(root / "models")  # the registry keeps its own copy
    assert "MLFLOW_TRACKING_URI" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    loaded = load_mlflow().pyfunc.load_model("models:/meadows@champion")
    assert loaded.metadata.signature.inputs.input_names() == ["reflectance"]
    assert loaded.metadata.saved_input_example_info["params"] == "true"
    given, params = example_request(bundle.card)
    windows = np.clip(given["reflectance"] / np.float32(0.5), 0, 1)
    _, _, r, n = given["reflectance"].swapaxes(0, 1)
    ndvi = np.clip(((n - r) / (n + r))[:, None] / np.float32(0.5), 0, 1)
    expected = bundle.probabilities(np.concatenate([windows, ndvi], axis=1).astype(np.float32))
    np.testing.assert_allclose(loaded.predict(given, params=params), expected, atol=1e-5)


def test_both_kinds_of_models_are_compared_by_patches(root):
    register(make_bundle(root / "one"))
    told = register(make_bundle(root / "two", kind="surroundings", accuracy=(0.9, 0.85, 0.95)))
    assert "version 2, the champion: spatial CV accuracy of patches 0.9000 (0.8500 to 0.9500) is higher" in told
    tags = [version.tags for version in client_of(root).search_model_versions("name='meadows'")]
    assert {tag["landfold.unit"]: tag.get("landfold.pixel_accuracy_pooled") for tag in tags} == {
        "patch": None,
        "pixel": "0.9",
    }


def test_the_champion_stays_until_a_better_one_is_shown(root):
    assert "version 1, the champion" in register(make_bundle(root / "one", accuracy=(0.7, 0.65, 0.75)))
    told = register(make_bundle(root / "two", seed=1, accuracy=(0.71, 0.66, 0.76)))
    assert "registered as version 2, not the champion" in told
    assert "not distinguishable from that of version 1" in told
    assert holder(root) == 1
    assert "registered already as version 2, the champion" in register(root / "two", promote=True)
    assert holder(root) == 2
    assert "version 3, not the champion" in register(make_bundle(root / "three", seed=2, accuracy=(0.6, 0.5, 0.7)))
    better = make_bundle(root / "four", seed=3, accuracy=(0.9, 0.85, 0.95))
    told = register(better, dry_run=True)
    assert told.startswith("meadows: would be registered as version 4, the champion: ")
    assert len(client_of(root).search_model_versions("name='meadows'")) == 3
    assert "version 4, the champion" in register(better)
    assert holder(root) == 4


def test_a_model_of_other_data_is_refused_unless_told(root):
    register(make_bundle(root / "one"))
    other = make_bundle(root / "two", seed=1, data="b", accuracy=(0.95, 0.9, 0.99))
    with pytest.raises(RegistryError, match=f"data digest is {sha('b')[:12]}.*add --other-data"):
        register(other)
    assert len(client_of(root).search_model_versions("name='meadows'")) == 1
    assert "version 2, not the champion" in register(other, other_data=True)
    assert holder(root) == 1


def test_a_version_of_others_is_no_champion_to_compare_with(root):
    client = client_of(root)
    client.create_registered_model("meadows")
    client.create_model_version("meadows", str(root))
    client.set_registered_model_alias("meadows", "champion", "1")
    model = make_bundle(root / "one")
    with pytest.raises(RegistryError, match="that of version 1, the champion, unknown"):
        register(model)
    assert "version 2, the champion" in register(model, other_data=True, promote=True)


def test_another_name_and_alias(root):
    model = make_bundle(root / "one", name="Grünland 2020/21")
    assert register(model, dry_run=True).startswith("Grünland-2020-21: would be registered as version 1, the champion")
    assert register(model, name="grass", alias="candidate").startswith("grass: registered as version 1, the candidate")
    with pytest.raises(RegistryError, match="--name 'a/b': expected letters"):
        register(model, name="a/b")


def test_a_version_points_to_the_run_of_its_result(root):
    model = make_bundle(root / "models/landfold")
    client = client_of(root)
    experiment = client.create_experiment("meadows", artifact_location=(root / "mlruns").as_uri())
    shutil.move(root / "models/weights-landfold", root / "models/k2")
    parent = client.create_run(experiment, tags={"landfold.complete": "true", "mlflow.source.git.commit": "c0ffee"})
    half = client.create_run(experiment)
    for fold in range(2):
        tags = {"dvc.fold_digest": digest(root / f"models/k2/fold_{fold}")}
        for run in (parent, half):
            client.create_run(experiment, tags=tags | {"mlflow.parentRunId": run.info.run_id})
    register(model)
    (version,) = client.search_model_versions("name='meadows'")
    assert version.run_id == parent.info.run_id
    assert version.tags["mlflow.source.git.commit"] == "c0ffee"
    (logged,) = client.search_logged_models([experiment])
    assert logged.source_run_id == parent.info.run_id
    assert client.get_run(parent.info.run_id).info.status == "RUNNING"  # nothing about the run was touched


def test_without_a_run_the_commit_of_the_checkout_is_told(root):
    model = make_bundle(root / "one")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    register(model)
    (version,) = client_of(root).search_model_versions("name='meadows'")
    assert (version.tags["mlflow.source.git.commit"], version.run_id) == (head, None)


def test_a_dry_run_makes_no_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    model = make_bundle(tmp_path / "one")
    told = register(model, dry_run=True, root=tmp_path)
    assert told.startswith("meadows: would be registered as version 1, the champion: ")
    assert not list(tmp_path.glob("mlflow.db*"))


def test_what_fails_half_way_leaves_no_version(root, monkeypatch):
    model = make_bundle(root / "one")

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("landfold.deploy.registry.save_mlflow_model", full)
    with pytest.raises(OSError, match="No space left"):
        register(model)
    client = client_of(root)
    assert client.search_registered_models() == []
    assert client.search_logged_models([client.get_experiment_by_name("meadows").experiment_id]) == []


def test_a_server_that_is_down_is_told_without_credentials(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:geheim@127.0.0.1:9")
    with pytest.raises(
        UnreachableStoreError, match=r"^http://127\.0\.0\.1:9: no server listens there; start it"
    ) as caught:
        register(make_bundle(root / "one"))
    assert "geheim" not in str(caught.value)
