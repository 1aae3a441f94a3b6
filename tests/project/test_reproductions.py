"""The numbers in docs/science/reproductions.md are those of the committed records, and what it shows is there."""

import importlib.util
import re
from pathlib import Path

import pytest

import grok_lightning
from grok_lightning.options.shipped import find_sweep
from grok_lightning.records.archive import read_archive
from grok_lightning.report.making import make_report
from grok_lightning.report.text import format_after_grok, format_brief
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
@pytest.mark.parametrize("name", [name for name in RECORDED if not EXPERIMENTS[name].summed])
def test_a_table_is_that_of_the_records(name):
    path = HOME / "docs" / "science" / "reproductions" / f"{name}.parquet"
    report = make_report([str(path)], HOME, EXPERIMENTS[name].by)
    assert block(name) == format_brief(report.conditions, report.runs, report.setup)
    if EXPERIMENTS[name].watched:
        assert block(f"{name}: after") == format_after_grok(report.conditions)


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
        if EXPERIMENTS[name].summed:
            continue
        assert (block(name) == reproduce.NOT_RUN) == (name not in RECORDED)


def test_every_picture_is_there_and_every_one_there_is_shown():
    shown = set(re.findall(r"\]\(reproductions/([\w.-]+\.png)\)", TEXT))
    assert shown == {path.name for path in (HOME / "docs" / "science" / "reproductions").glob("*.png")}


def test_records_are_a_few_megabytes_in_all():
    assert sum(path.stat().st_size for path in (HOME / "docs" / "science" / "reproductions").glob("*.parquet")) < 8e6


def test_the_tables_of_the_explanation_are_those_of_the_records():
    text = (HOME / "docs" / "science" / "explanation.md").read_text()
    assert text.count("<!-- end of") == 5
    without = re.sub(r"(<!-- (?!end)[^>]*-->\n).*?(<!-- end of)", r"\1\2", text, flags=re.DOTALL)
    assert without != text
    assert benchmark("explain").with_tables(without) == text


SECTIONS = re.split(r"\n(?=## \d+\. )", TEXT)[1:]
STEP = r"(?<![\d.,])\d{1,3}(?:,\d{3})+"
ELSEWHERE = {  # numbers of the prose that no record holds
    "4": ["2,500"],  # tried by hand
    "6": ["1,070"],  # a difference
    "9": ["20,000"],  # of section 5
    "10": ["4,753"],  # rows of the half table
    "12": ["2,700"],  # about where a spike is
    "15": ["3,000"],  # tried by hand
}


def records_of(section):
    """The curves of the experiments whose tables a section has, and its text without them and without the source's."""
    tables = re.findall(r"<!-- [\w-]+(?:: \w+)? -->.*?<!-- end[^>]*-->", section, re.DOTALL)
    names = [name for name in re.findall(r"<!-- ([\w-]+) -->", section) if name in RECORDED]
    curves = [read_archive(HOME / "docs" / "science" / "reproductions" / f"{name}.parquet")[1] for name in names]
    for table in tables:
        section = section.replace(table, "")
    parts = [part for part in section.split("\n\n") if not part.startswith("|")]
    source = [part for part in parts if part.startswith("**Source**")]
    return curves, "\n".join(tables + source), "\n\n".join(part for part in parts if part not in source)


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=[section.split(".")[0].split()[-1] for section in SECTIONS])
def test_the_numbers_of_the_prose_are_those_of_the_records(section):
    """Each step is one at which a run was evaluated, each accuracy with decimals one that was measured."""
    curves, told, prose = records_of(section)
    steps = {f"{step:,.0f}" for table in curves for step in table["step"].unique()}
    known = steps | set(re.findall(STEP, told)) | set(ELSEWHERE.get(section.split(".")[0].split()[-1], []))
    assert set(re.findall(STEP, prose)) <= known
    accuracies = {
        f"{100 * value:.{digits}f}"
        for table in curves
        for name in table
        if name.endswith("/acc")
        for value in table[name].dropna().unique()
        for digits in (1, 2)
    }
    lists = re.findall(r"((?:\d+(?:\.\d+)?(?:, | and | to |, at |))+) %", prose)
    assert {number for each in lists for number in re.findall(r"\d+\.\d+", each)} <= accuracies | set(
        re.findall(r"\d+\.\d+", told)
    )
