"""The numbers in docs/science/reproductions.md are those of the committed records, and what it shows is there."""

import importlib.util
import re
from pathlib import Path

import pytest

import grok_lightning
from grok_lightning.options.shipped import find_sweep
from grok_lightning.records.archive import read_archive
from grok_lightning.report.making import make_report
from grok_lightning.report.text import format_brief
from grok_lightning.sweep.plan.runs import read_plan

HOME = Path(grok_lightning.__file__).parents[1]
TEXT = (HOME / "docs" / "science" / "reproductions.md").read_text()


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, HOME / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reproduce = benchmark("reproduce")
EXPERIMENTS = {each.sweep: each for each in reproduce.EXPERIMENTS}
RECORDED = sorted(path.stem for path in (HOME / "docs" / "science" / "reproductions").glob("*.parquet"))


def block(name):
    return re.search(f"<!-- {re.escape(name)} -->\n(.*?)<!-- end of {re.escape(name)} -->", TEXT, re.DOTALL)[1].strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_a_table_is_that_of_the_records(name):
    path = HOME / "docs" / "science" / "reproductions" / f"{name}.parquet"
    report = make_report([str(path)], HOME, EXPERIMENTS[name].by)
    assert block(name) == format_brief(report.conditions, report.runs)


def test_records_tell_no_place_of_a_machine():
    for name in RECORDED:
        content = (HOME / "docs" / "science" / "reproductions" / f"{name}.parquet").read_bytes()
        runs, _ = read_archive(HOME / "docs" / "science" / "reproductions" / f"{name}.parquet")
        assert not runs["path"].str.startswith("/").any()
        assert not re.search(rb"/(home|root|tmp|work)/", content)


@pytest.mark.slow
def test_recorded_runs_are_those_that_their_sweeps_plan():
    """Their hashes, whatever the everyday configs that a sweep is based on have become."""
    for name in RECORDED:
        runs, _ = read_archive(HOME / "docs" / "science" / "reproductions" / f"{name}.parquet")
        assert set(runs["config_hash"]) <= {run.hash for run in read_plan(name).runs}, name


def test_every_experiment_is_a_shipped_sweep_with_a_place_in_the_text():
    for name in EXPERIMENTS:
        assert find_sweep(name).stem == name
        assert (block(name) == reproduce.NOT_RUN) == (name not in RECORDED)


def test_every_picture_is_there_and_every_one_there_is_shown():
    shown = set(re.findall(r"\]\(reproductions/([\w.-]+\.png)\)", TEXT))
    assert shown == {path.name for path in (HOME / "docs" / "science" / "reproductions").glob("*.png")}


def test_records_are_a_few_megabytes_in_all():
    assert sum(path.stat().st_size for path in (HOME / "docs" / "science" / "reproductions").glob("*.parquet")) < 6e6


def test_the_tables_of_the_explanation_are_those_of_the_records():
    text = (HOME / "docs" / "science" / "explanation.md").read_text()
    assert text.count("<!-- end of") == 5
    without = re.sub(r"(<!-- (?!end)[^>]*-->\n).*?(<!-- end of)", r"\1\2", text, flags=re.DOTALL)
    assert without != text
    assert benchmark("explain").with_tables(without) == text
