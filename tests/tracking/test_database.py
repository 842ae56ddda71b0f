"""The sqlite database is created once."""

from contextlib import closing

import pytest

from landfold import tracking
from landfold.tracking import TrackingError
from landfold.tracking.database import read_only
from tests.tracking.results import in_processes, runs, start_and_finish


def test_four_processes_create_one_sound_database(tmp_path, capfd):
    in_processes(4, start_and_finish, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert [run.info.status for run in runs(tmp_path)] == ["FINISHED"] * 4
    with closing(read_only(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("character", ["%", "?"])
def test_path_that_mlflow_misreads_is_refused(tmp_path, character):
    with pytest.raises(TrackingError, match=r"cannot use a database in a path with % or \?"):
        tracking.create_database(tmp_path / f"a{character}20b" / "mlflow.db")
    assert list(tmp_path.iterdir()) == []
