"""What one machine pushes another pulls: a folder and S3 as DVC remotes, git for the rest.

Trainings are stubs (tests/projects.py); tests/test_pipeline.py does it with the whole pipeline.
"""

import logging
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.factories import read_json, tree
from tests.projects import Project, ran, recorded, small_project

K = 2
RESTORED = {0: "restored", 1: "restored"}
KEY, SECRET = "AKIALANDFOLDTEST", "not-for-git-9f3a"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a result, pushed to a bare git repository and to a folder as DVC remote."""
    project = small_project(tmp_path_factory.mktemp("remotes") / "first machine")
    project("dvc repro", UNTRACKED="1")
    project("git init -q --bare -b main ../origin.git")
    project("git remote add origin ../origin.git")
    project("dvc remote add -q -d shared ../shared")
    project.commit("result")
    project("git push -q -u origin main")
    project("dvc push -q --run-cache")
    yield project
    project.end()


def clone(origin: Project, name: str) -> Project:
    """Another machine: a clone with a cache of its own, from the bare repository."""
    return origin.clone(name, "../origin.git")


def test_pull_then_repro(origin: Project) -> None:
    there = clone(origin, "second")
    assert not (there.folder / "models").exists()
    there("dvc pull -q")
    assert tree(there.folder / "models") == tree(origin.folder / "models")
    assert tree(there.folder / "data/raw") == tree(origin.folder / "data/raw")
    assert ran(there("dvc repro")) == ["track"]
    assert [found.folds for found in recorded(there.folder / "mlflow.db", K).values()] == [RESTORED]
    assert there("git status --porcelain") == ""


def test_repro_pull_runs_what_a_change_needs_and_no_more(origin: Project) -> None:
    there = clone(origin, "fourth")
    there.set(train__weight_decay=0.2)
    output = there("dvc repro --pull evaluate", UNTRACKED="1")
    assert ran(output) == ["train@1", "evaluate"]
    made, expected = tree(there.folder / "models/k2"), tree(origin.folder / "models/k2")
    assert {name for name in expected if made[name] != expected[name]} == {
        "fold_1/history.csv",
        "fold_1/model.json",
        "fold_1/model.safetensors",
    }


def test_an_experiment_is_shared(origin: Project) -> None:
    origin("dvc exp run -q --temp -n steeper -S train.weight_decay=0.3 evaluate", UNTRACKED="1")
    origin("dvc exp push origin steeper")
    there = clone(origin, "fifth")
    assert "steeper" in there("dvc exp list --name-only origin")
    there("dvc exp pull origin steeper")
    there("dvc exp apply steeper")
    assert "weight_decay: 0.3" in there("git diff params.yaml")
    cards = [read_json(there.folder / f"models/k2/fold_{fold}/model.json") for fold in range(K)]
    assert [card["train"]["rate"] for card in cards] == [0.1, 0.3]
    assert ran(there("dvc repro evaluate")) == []


@pytest.fixture
def bucket() -> Iterator[str]:
    """The endpoint of an S3 server on this machine with one bucket, scenes."""
    logging.getLogger("werkzeug").setLevel("ERROR")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    options = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **options).create_bucket(Bucket="scenes")
    yield endpoint
    server.stop()


def test_s3(origin: Project, bucket: str) -> None:
    there = clone(origin, "sixth")
    there("dvc pull -q")
    there("dvc remote add -q -d cloud s3://scenes/landfold")
    there(f"dvc remote modify -q cloud endpointurl {bucket}")
    there(f"dvc remote modify -q --local cloud access_key_id {KEY}")
    there(f"dvc remote modify -q --local cloud secret_access_key {SECRET}")
    there("git checkout -q -b cloud")
    there.commit("cloud")
    there("git push -q origin cloud")
    there("dvc push -q --run-cache")
    assert there("git check-ignore .dvc/config.local").strip() == ".dvc/config.local"
    committed = there("git log -p --all")
    assert "s3://scenes/landfold" in committed
    assert KEY not in committed
    assert SECRET not in committed
    far = clone(origin, "seventh")
    far("git checkout -q cloud")
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    assert ran(far("dvc repro --pull evaluate", **credentials)) == []
    assert tree(far.folder / "models") == tree(origin.folder / "models")
