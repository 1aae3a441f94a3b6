"""One bad record kills no report and no sweep: a reader succeeds, naming it, or refuses in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import damaged
import pandas as pd
import pytest
from conftest import TINY
from records import conditions, directory_of, reporting, write_run

from grok_lightning.errors import UserError
from grok_lightning.records.archive import read_archive
from grok_lightning.records.curves import read_curves
from grok_lightning.records.form import find_fault, find_faults
from grok_lightning.records.notices import read_notices
from grok_lightning.records.record import METRICS, RESULT, flatten, read_metrics, read_result
from grok_lightning.records.results import read_records
from grok_lightning.report import gather
from grok_lightning.run import load_run
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan.pending import COLUMNS

SWEEP = """\
set: {data.modulus: 7, trainer.precision: 32-true, trainer.accelerator: cpu, model.network: {class_path: MLP, width: 8}}
grid: {seed_everything: [0, 1]}
"""


@pytest.fixture
def report(command, monkeypatch):
    monkeypatch.setattr(gather, "MOST_NAMED", 10_000)
    return reporting(command, monkeypatch)


@pytest.fixture
def write_good(report) -> None:
    """Two whole runs, in the working directory of ``report``."""
    write_run("good0")
    write_run("good1", changes={"seed_everything": 1})


def add(name: str, **files: bytes) -> Path:
    """Writes a run that is whole but for some files; None removes one."""
    directory = directory_of(write_run(name, changes={"seed_everything": hash(name) % 10**9}, memorized=40))
    for file, content in files.items():
        (directory / {"result": RESULT, "metrics": METRICS, "config": "config.yaml"}[file]).write_bytes(content)
    return directory


def refusal(read: Callable[[Any], object], path: Path) -> str:
    """The line with which a reader refuses a file; empty if it reads it."""
    try:
        read(path)
    except UserError as error:
        return str(error)
    return ""


def succeeds_or_refuses(outcome: tuple[int, str, str]) -> None:
    status, _, err = outcome
    assert status in (0, 2)
    assert err.count("\n") <= 1 or status == 0
    assert "Traceback" not in err


def test_unreadable_results_are_named_and_the_others_reported(report, command, write_good):
    paths = [add(f"bad{number}", result=content) for number, content in enumerate(damaged.UNREADABLE.values())]
    assert report("e")[0] == 0
    text = Path("out/report.md").read_text()
    assert conditions()["n"].tolist() == [2]
    for path in paths:
        assert f"{path} (" in text
    table = read_records("lightning_logs/e")
    assert set(table.attrs["faults"]) == set(table.attrs["damaged"])
    Path("e.yaml").write_text(SWEEP)
    for arguments in (["status", "e.yaml"], ["e.yaml", "--dry_run"]):
        status, told, err = command("sweep", *arguments)
        assert status == 0
        assert f"{paths[0] / RESULT} is damaged (it cannot be read as JSON" in told + err
    for path, content in zip(paths, damaged.UNREADABLE.values(), strict=True):
        assert RESULT in refusal(read_result, path / RESULT) or isinstance(read_result(path / RESULT), dict), content


def test_fields_of_wrong_types_are_named_and_the_others_reported(report, command, write_good):
    whole = json.loads((directory_of(write_run("whole", changes={"seed_everything": 5})) / RESULT).read_text())
    wrong = {}
    for field in damaged.FIELDS:
        for value in damaged.VALUES:
            content = damaged.of_field(whole, field, value)
            content = (
                json.dumps(json.loads(content) | {"config_hash": None}).encode() if field != "config_hash" else content
            )
            fault = find_fault(flatten(json.loads(content)))
            if fault is not None:
                wrong[content] = fault
    chosen = dict(list(wrong.items())[::7])
    assert len(chosen) > 30
    paths = [add(f"bad{number}", result=content) for number, content in enumerate(chosen)]
    assert report("e")[0] == 0
    text = Path("out/report.md").read_text()
    assert conditions()["n"].tolist() == [3]
    for path, fault in zip(paths, chosen.values(), strict=True):
        assert f"{path} ({fault[:6]}" in text
    Path("e.yaml").write_text(SWEEP)
    status, told, _ = command("sweep", "status", "e.yaml")
    assert status == 0
    assert "is damaged (status is -1; text is expected)" in told


@pytest.mark.slow
@pytest.mark.parametrize("field", damaged.FIELDS)
def test_one_wrong_field_alone(report, write_good, field):
    """Each alone decides the types of the table's columns, which all together do not show."""
    directory = add("bad")
    whole = json.loads((directory / RESULT).read_text())
    for value in damaged.VALUES[:: 3 if field in ("status", "steps", "final", "config") else 7]:
        (directory / RESULT).write_bytes(damaged.of_field(whole, field, value))
        succeeds_or_refuses(report("e"))


def test_a_table_of_records_has_the_faults_of_its_records():
    values: list[Any] = [*damaged.VALUES, "finished", "failed", 5]
    for field in ("status", "steps", "grok_step", "threshold", "config_hash", "final.val/acc", "schema", "config"):
        whole = {"status": "finished", "steps": 1, "budget": 2, "threshold": 0.9}
        rows = [whole | {field: value} for value in values]
        table = pd.DataFrame(
            {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in {**whole, field: 0}}
        )
        expected = {place: fault for place, row in enumerate(rows) if (fault := find_fault(row))}
        assert find_faults(table) == expected
    numbers = pd.DataFrame(
        {"status": ["finished"] * 3, "steps": [1.0, -1.0, float("nan")], "budget": 2, "threshold": 0.9}
    )
    assert find_faults(numbers) == {1: "steps is -1.0; a number from 0 to 2^53 is expected", 2: "it has no steps"}
    assert not find_faults(numbers[:1])


@pytest.mark.parametrize("name", damaged.METRICS_FILES)
def test_damaged_metrics(report, write_good, name):
    directory = add("bad", metrics=damaged.METRICS_FILES[name])
    refused = refusal(read_metrics, directory)
    assert METRICS in refused or not refused
    rows = [] if refused else read_metrics(directory)
    curves = read_curves([str(directory)])
    assert len(curves) in (0, len(rows))
    assert report("e")[0] == 0
    assert ("metrics.csv is damaged or missing" in Path("out/report.md").read_text()) == (not len(curves))
    (directory / RESULT).unlink()  # an unfinished run
    assert report("e")[0] == 0


@pytest.mark.parametrize("name", damaged.CONFIGS)
def test_damaged_configs_of_unfinished_runs(report, write_good, name):
    directory = add("bad", config=damaged.CONFIGS[name])
    (directory / RESULT).unlink()
    succeeds_or_refuses(report("e"))


def test_damaged_archives(report, command, write_good):
    assert report("e")[0] == 0
    Path("e.yaml").write_text(SWEEP)
    whole = Path("out/runs.parquet").read_bytes()
    found = damaged.archives(whole)
    assert len(found) > 90
    refused = 0
    for number, (name, content) in enumerate(found.items()):
        Path("bad.parquet").write_bytes(content)
        error = refusal(read_archive, Path("bad.parquet"))
        assert error.startswith("bad.parquet: ") or not error, name
        refused += bool(error)
        if not error and number % 5 == 0:
            succeeds_or_refuses(report("bad.parquet", out="other"))
            succeeds_or_refuses(command("sweep", "status", "e.yaml", "--known", "bad.parquet"))
    assert refused > 50


NOTICE = {"name": "a", "experiment": "e", "time": 1, "budget": 9, "runs": 1, "over": 0, "step": 3}
WRONG: tuple[dict[str, Any], ...] = ({}, {"budget": 0}, {"name": 3}, {"step": 10**299}, {"rate": "x"})
NOTICES = ["{}", "[]", "3", "null", "", "[" * 9999, *(json.dumps(NOTICE | wrong) for wrong in WRONG)]


@pytest.mark.parametrize("content", NOTICES)
def test_files_of_a_sweep_that_are_no_such_files(command, content):
    """Notices and members that cannot be read are as good as none; a precision is asked for."""
    places = Places(Path(), "e")
    Path("e.yaml").write_text(SWEEP.replace("32-true", "auto"))
    for path in (places.notices / "elsewhere-1.json", places.notices / "x.json", places.stacks / "s" / "members.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (places.stacks / "s" / "last.ckpt").touch()
    (places.own / "sweep.json").write_text(content)
    (places.own / "planned.parquet").write_text(content)
    (places.own / "index.parquet").write_text(content)
    assert not read_notices(places.notices)
    assert places.read_members() in ({}, {"s": []})
    assert command("sweep", "status", "e.yaml")[0] == 0
    (places.own / "precision.json").write_text(content)
    status, _, err = command("sweep", "e.yaml", "--dry_run")
    assert (status, err.count("\n")) == (2, 1)
    assert "precision.json" in err


def test_only_the_columns_that_a_sweep_reads_decide_whether_a_run_is_over():
    fields = {"status": "finished", "config_hash": "a"}
    assert find_fault({name: fields.get(name) for name in COLUMNS}, ()) is None
    assert find_fault({name: (fields | {"grok_step": []}).get(name) for name in COLUMNS}, ()) is not None


def test_the_record_of_a_loaded_run(fitted):
    fitted(*TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", "20")
    run, directory = load_run("checkpoints/e/a"), Path("lightning_logs/e/a")
    reads = (lambda _: run.metrics, lambda _: run.memorize_step, lambda _: run.grok_step, lambda _: run.figure())
    for name, content in damaged.METRICS_FILES.items():
        (directory / METRICS).write_bytes(content)
        for read in reads:
            line = refusal(read, directory)
            assert METRICS in line or not line, name
            assert line.isprintable(), name
    for name, content in damaged.UNREADABLE.items():
        (directory / RESULT).write_bytes(content)
        line = refusal(lambda _: run.result, directory)
        assert RESULT in line or not line, name
