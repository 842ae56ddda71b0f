"""The commit and the packages that made a run."""

import sys

from landfold.tracking.origin import environment, origin
from tests.tracking.results import artifacts, git


def test_environment_names_python_and_the_pinned_packages(recorded, parent, children):
    text = (artifacts(recorded, parent) / "environment.txt").read_text()
    first, *lines = text.splitlines()
    assert first.startswith(f"# {sys.implementation.name.replace('cp', 'CP')} {sys.version.split()[0]} on ")
    assert [line.partition("==")[0] for line in lines] == ["pydantic", "pyyaml"]
    assert lines[0].endswith("  # requirements.txt: 0.1")
    assert environment(recorded) == text
    assert (artifacts(recorded, children["fold_0"]) / "environment.txt").is_file()


def test_dirty_is_what_a_result_is_made_from(tmp_path):
    assert origin(tmp_path, "x.py") == {"mlflow.source.name": "x.py", "mlflow.source.type": "LOCAL"}
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert "landfold.dirty" not in origin(tmp_path, "x.py")  # no commit yet
    for name in ("landfold/a b.py", "dvc.lock", "metrics/summary.json", "README.md", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    for name in ("dvc.lock", "metrics/summary.json", "README.md"):
        (tmp_path / name).write_text("2")
    assert origin(tmp_path, "x.py")["landfold.dirty"] == "false"
    (tmp_path / "landfold/a b.py").write_text("2")
    (tmp_path / "landfold/new.py").write_text("2")
    (tmp_path / "params.yaml").unlink()
    git(tmp_path, "checkout", "-q", "--detach")
    tags = origin(tmp_path, "x.py")
    assert tags["landfold.dirty"] == "true"
    assert sorted(tags["landfold.changed_files"].split(", ")) == ["landfold/a b.py", "landfold/new.py", "params.yaml"]
    assert "mlflow.source.git.branch" not in tags
