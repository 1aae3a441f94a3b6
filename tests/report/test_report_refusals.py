"""What a report cannot be made of is refused in one line, nothing written; what is damaged is left out and told."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import change_result, conditions, directory_of, reporting, sweep, write_run

from grok_lightning.records.archive import read_archive

WHOLE = '{"status": "finished", "steps": 5, "threshold": 0.99, '
NEGATIVE = WHOLE + '"budget": 10, "grok_step": -1}'
NO_BUDGET, BUDGET_1 = WHOLE + '"budget": null}', WHOLE + '"budget": -1}'


@pytest.fixture
def report(command, monkeypatch):
    return reporting(command, monkeypatch)


def refused(report, *arguments, out="out"):
    """The one line of a refusal."""
    status, told, error = report(*arguments, out=out)
    assert status == 2, error
    assert told == ""
    assert error.count("\n") == 1
    assert not Path(out).is_dir() or not list(Path(out).iterdir())
    return error


def test_no_such_experiment(report):
    assert "there is no experiment 'nothing'" in refused(report, "nothing")
    write_run("a", experiment="addition")
    assert "did you mean addition?" in refused(report, "additon")
    assert "there are addition" in refused(report, "zzz")
    Path("lightning_logs/empty").mkdir()
    assert "no runs with a record" in refused(report, "empty")
    assert "there is no such file" in refused(report, "no/runs.parquet")


def test_a_key_that_no_run_has(report):
    write_run("a")
    assert "did you mean data.train_fraction?" in refused(report, "e", "--by", "data.train_fractio")
    assert "did you mean optimizer?" in refused(report, "e", "--by", "optimiser")  # a block
    assert "did you mean layers?" in refused(report, "e", "--by", "layer")  # an ending
    assert "--by zzzzzzzzz: no run has such an option" in refused(report, "e", "--by", "zzzzzzzzz")
    assert "several options end so: data.class_path" in refused(report, "e", "--by", "class_path")
    assert "did you mean --title?" in refused(report, "e", "--titel", "lr")


def test_mixed_operations(report):
    write_run("a", changes={"data.formula": "x + y"})
    write_run("b", changes={"data.formula": "x * y"})
    error = refused(report, "e", "--by", "train_fraction")
    assert "pools runs of data.formula x + y and x * y (x + y mod 7, x * y mod 7); add data.formula to --by" in error
    for by in ([], ["--by", "formula"], ["--by", "data"]):
        assert report("e", *by)[0] == 0
        assert sorted(conditions().index) == ["x * y", "x + y"]
    write_run("c", changes={"data.formula": "x + y", "data.modulus": 11})
    assert "pools runs of data.modulus 7 and 11" in refused(report, "e", "--by", "formula", out="other")


@pytest.mark.parametrize("version", [2, "2", 1.5, "new"])
def test_records_of_other_versions(report, version):
    hashed = write_run("a")
    change_result(hashed, schema=version)
    error = refused(report, "e")
    assert f"schema version {version}, this program reads 1" in error
    write_run("b", changes={"seed_everything": 1})
    assert "schema version 1 and" in refused(report, "e")


def test_records_from_before_versions_have_the_first(report):
    hashed = write_run("a")
    change_result(hashed, schema=None)
    write_run("b", changes={"seed_everything": 1})
    assert report("e")[0] == 0
    assert conditions()["n"].tolist() == [2]


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/none", "x" * 300])
def test_a_folder_that_cannot_be_made(report, out):
    write_run("a")
    Path("file").write_text("kept")
    status, _, error = report("e", out=out)
    assert (status, error.count("\n")) == (2, 1)
    assert "--out" in error
    assert Path("file").read_text() == "kept"


def test_archives_that_are_none(report):
    write_run("a")
    assert report("e")[0] == 0
    whole = Path("out/runs.parquet").read_bytes()
    files = {
        "empty.parquet": b"",
        "text.parquet": b"no parquet at all",
        "cut.parquet": whole[: len(whole) // 2],
        "scratched.parquet": whole[:200] + bytes(60) + whole[260:],
    }
    for name, content in files.items():
        Path(name).write_bytes(content)
        assert name in refused(report, name, out="other")
    pq.write_table(pa.table({"a": [1]}), "other.parquet")
    assert "not the runs.parquet of a report" in refused(report, "other.parquet", out="other")
    table = pq.read_table("out/runs.parquet")
    pq.write_table(table.replace_schema_metadata({b"grok_lightning.runs": b"2"}), "later.parquet")
    assert "schema version 2 of runs.parquet, this program reads 1" in refused(report, "later.parquet", out="other")
    pq.write_table(table.drop(["path"]), "pathless.parquet")
    assert "lacks columns" in refused(report, "pathless.parquet", out="other")
    pq.write_table(table.slice(0, 0), "none.parquet")
    assert "it holds no runs" in refused(report, "none.parquet", out="other")


def test_failed_runs_are_left_out_and_told(report):
    failed = dict.fromkeys(["steps", "budget", "threshold", "memorize_step", "grok_step", "final", "best"])
    sweep({0.5: [40, 80]})
    write_run("bad", changes={"seed_everything": 7}, status="failed", error="RuntimeError", **failed)
    assert report("e")[0] == 0
    assert conditions()["n"].tolist() == [2]
    assert "Failed with an error, and in no table or figure: 1 run." in Path("out/report.md").read_text()
    write_run("bad", changes={"seed_everything": 8}, experiment="bad", status="failed", error="RuntimeError", **failed)
    assert "1 run, and none without an error" in refused(report, "bad", out="other")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"status": "finished"}',
        '{"status": 3, "steps": "many"}',
        "\0",
        NEGATIVE,
        NO_BUDGET,
        BUDGET_1,
    ],
)
def test_damaged_records_are_left_out_and_told(report, content):
    sweep({0.5: [40, 80]})
    path = directory_of(write_run("bad", changes={"seed_everything": 7})) / "result.json"
    path.write_text(content)
    assert report("e")[0] == 0
    assert conditions()["n"].tolist() == [2]
    assert f"Left out because the record is damaged: {path.parent} (" in Path("out/report.md").read_text()


METRICS = [
    "",
    "step\n",
    "step,train/acc,val/acc\n",
    "step,train/acc\n0,1.0\n",
    "train/acc,val/acc\n1.0,1.0\n",
    "step,step,val/acc\n1,1,1.0\n",
    "step,train/acc,val/acc\n0,nan,nan\n10,,\n",
    "step,train/acc,val/acc\n\n0,0.1,0.1\n\n10,0.2,0.2\n",
    "step,train/acc,val/acc\n0,0.1,0.1\n10,0.2\n20,0.3,0.3\n",
    "step,train/acc,val/acc\n0,0.1,x\n",
    "step,train/acc,val/acc\n0,0.1,\0\0\0\n",
    "step,train/acc,val/acc\n0,inf,-inf\n",
    "\0" * 40,
]


@pytest.mark.parametrize("over", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("text", METRICS, ids=repr)
def test_evaluations_of_any_form(report, text, over):
    sweep({0.5: [40, 80]})
    (directory_of(write_run("odd", changes={"seed_everything": 7}, over=over)) / "metrics.csv").write_text(text)
    assert report("e")[0] == 0
    told = Path("out/report.md").read_text()
    left_out = "Left out because" in told
    assert conditions()["n"].tolist() == [2 if left_out else 3]
    assert over <= (not left_out)
    curves = read_archive(Path("out/runs.parquet"))[1]
    assert (curves["run"].nunique() == 2) == (left_out or "metrics.csv is damaged or missing" in told)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "a: b", "trainer: {max_steps: null}", "trainer: {max_steps: many}", "\t"]
)
def test_configs_of_any_form(report, text):
    sweep({0.5: [40, 80]})
    (directory_of(write_run("odd", changes={"seed_everything": 7}, over=False)) / "config.yaml").write_text(text)
    assert report("e")[0] == 0
    assert conditions()["n"].tolist() == [2]
    assert "Left out because there is no whole config or no evaluation yet" in Path("out/report.md").read_text()
