"""Records are the runs that are over, of one run, of an experiment or of many together."""

from pathlib import Path

import pandas as pd
import pytest
from results_of_every_kind import assert_same_table, write

from grok_lightning.records.record import RESULT, append_metrics, run_directories, write_json
from grok_lightning.records.results import read_records


def test_records_are_the_finished_runs(tmp_path: Path) -> None:
    for run in ("0", "1", "2"):
        logs, _ = run_directories(tmp_path, "addition", run)
        append_metrics(logs, {"step": 0, "val/acc": 0.1})
        if run != "1":
            result = {"grok_step": 100 + int(run), "final": {"val/acc": 1.0}, "config": {"data": {"modulus": 97}}}
            write_json(logs / RESULT, result)
    top = tmp_path / "lightning_logs"
    table = read_records(top)
    assert list(table["grok_step"]) == [100, 102]
    assert set(table.columns) == {"grok_step", "final.val/acc", "config.data.modulus", "path"}
    assert [Path(path).name for path in table["path"]] == ["0", "2"]
    assert_same_table(read_records([top / "addition" / "0", top / "addition", str(top)]), table)
    assert_same_table(read_records([top / "addition" / "2", str(top / "addition" / "0")]), table)


def test_records_of_experiments_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("logs/b/1"), {"status": "finished", "step": 1, "lr": 0.1, "extra": [1]})
    write(Path("logs/b/0"), {"status": "finished", "step": 2, "lr": 1, "name": "x"})
    write(Path("logs/a/deep/7"), {"status": "failed", "step": None, "lr": None, "error": "no"})
    write(Path("logs/a b/10"), {"status": "finished", "step": 3, "lr": 2})
    write(Path("logs/alone"), {"status": "finished", "step": 4, "lr": 2})
    for hidden in ("logs/.trash/0", "logs/b/.2", "logs/b/.sweep/3"):
        write(Path(hidden), {"status": "finished"})
    for _ in ("built", "read"):
        table = read_records("logs")
        assert table["path"].tolist() == ["logs/a/deep/7", "logs/a b/10", "logs/alone", "logs/b/0", "logs/b/1"]
        assert table["status"].tolist() == ["failed", *["finished"] * 4]
        assert table["step"].dtype == "Int64"
        assert table["step"].tolist() == [pd.NA, 3, 4, 2, 1]
        assert table["lr"].dtype == "float64"
        assert table["lr"].tolist()[1:] == [2, 2, 1, 0.1]
        assert table["extra"].tolist() == [None, None, None, None, [1]]
        assert list(table.columns) == ["status", "step", "lr", "error", "name", "extra", "path"]
    assert_same_table(read_records([Path("logs/b/1"), "logs/b/0"]), read_records("logs/b"))


def test_a_run_is_read_from_within_and_by_way_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "elsewhere" / "0", {"steps": 5})
    (tmp_path / "logs" / "e").mkdir(parents=True)
    (tmp_path / "logs" / "e" / "link").symlink_to(tmp_path / "elsewhere" / "0")
    (tmp_path / "logs" / "e" / "up").symlink_to(tmp_path / "logs")
    assert read_records(tmp_path / "logs")["path"].tolist() == [str(tmp_path / "logs" / "e" / "link")]
    monkeypatch.chdir(tmp_path / "elsewhere" / "0")
    assert read_records(".")["path"].tolist() == ["."]
    assert not (tmp_path / "elsewhere" / ".sweep").exists()
