"""The documentation: links lead somewhere, its Python runs, and the site is built from it without a warning."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from grok_lightning.__main__ import main

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
GENERATED = {DOCS / "reference" / name for name in ("options.md", "configs.md")}  # written when the site is built
TOP = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = sorted({*DOCS.rglob("*.md")} - GENERATED)


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-"))
    return found


def leads_somewhere(page: Path, target: str) -> bool:
    """Whether a relative link of a page names a file that is there, and a heading in it."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if file in GENERATED:
        return True
    return file.exists() and (not anchor or file.suffix != ".md" or anchor in anchors(file))


def test_every_link_and_picture_leads_somewhere() -> None:
    links = [
        (page, target) for page in [*TOP, *PAGES] for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page))
    ]
    assert len(links) > 50
    assert not [f"{page.name}: {target}" for page, target in links if not leads_somewhere(page, target)]


def test_every_page_has_a_title_and_a_place_in_the_contents() -> None:
    listed = set(re.findall(r"^[\w/-]+$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE))
    there = {*PAGES, *GENERATED, *DOCS.glob("notebooks/*.ipynb")} - {DOCS / "index.md"}
    assert listed == {page.relative_to(DOCS).with_suffix("").as_posix() for page in there}
    assert all(len(re.findall(r"^# ", text_of(page), re.MULTILINE)) == 1 for page in PAGES)


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        (page.parent / target).resolve()
        for page in [*TOP, *PAGES]
        for target in re.findall(r"\]\(([^)\s]+\.png)\)", text_of(page))
    }
    assert shown == set(DOCS.rglob("*.png"))


TINY = (
    "--data.modulus 7 --model.network.width 8 --model.network.heads 2 --trainer.max_steps 4 --evaluation.every 2 "
    "--trainer.precision 32-true --threads 1"
)


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code of one language on a page, the Python API's own section left out."""
    text = (DOCS / page).read_text(encoding="utf-8")
    text = re.sub(r"<!-- python api -->.*?<!-- end of python api -->", "", text, flags=re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


RUN = ["howto/export.md", "howto/groups.md", "howto/load.md", "howto/look-inside.md", "howto/names.md"]
RUN += ["howto/networks.md", "howto/sweeps.md", "reference/records.md"]


@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    code = blocks(page, "python")
    assert code
    names: dict[str, object] = {}  # the blocks of a page follow one another
    for block in code:
        # of sweeps that nobody has run here there are no records: those of no run are a table without rows
        block = re.sub(
            r"^print\(table.*\n", "", block.replace("lightning_logs/fractions", "lightning_logs"), flags=re.MULTILINE
        )
        exec(compile(block, page, "exec"), names)


def test_the_trajectory_of_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("howto/trajectory.md", "python")
    exec(compile(code, "howto/trajectory.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("checkpoint.interval: at most 5 checkpoints of ") for line in lines)
    assert [line.split()[0] for line in lines[-5:]] == ["0", "10", "20", "30", "40"]


def test_the_forecast_of_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("howto/forecast.md", "python")
    exec(compile(code, "howto/forecast.md", "exec"), {})
    assert re.fullmatch(r"[\d.]+ \([\d.]+, [\d.]+\) [\d.]+ [\d.]+", capsys.readouterr().out.splitlines()[-1])


def test_the_yaml_of_the_pages_is_yaml() -> None:
    found = [block for page in PAGES for block in blocks(str(page.relative_to(DOCS)), "yaml")]
    assert len(found) > 3
    assert all(isinstance(yaml.safe_load(block), dict) for block in found)


def test_the_sweeps_of_the_pages_can_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from grok_lightning.sweep.file import read_grid

    monkeypatch.chdir(tmp_path)
    sweeps = [
        block for page in ("howto/sweeps.md", "tutorial.md") for block in blocks(page, "yaml") if "grid:" in block
    ]
    for number, block in enumerate(sweeps):
        path = tmp_path / f"sweep-{number}.yaml"
        path.write_text(block, encoding="utf-8")
        assert len(read_grid(path).points) == (15 if "seed_everything" in block else 12)


def test_own_classes_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (command,) = [block for block in blocks("howto/own-classes.md", "bash") if "mine.Bag" in block]
    arguments = command.replace("\\\n", " ").replace('"', "").split()
    assert arguments[:2] == ["grok-lightning", "fit"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    tiny = "--data.modulus 7 --trainer.max_steps 4 --evaluation.every 2 --trainer.precision 32-true --threads 1"
    assert main([*arguments[1:], *tiny.split()]) == 0
    header, *rows = (tmp_path / "lightning_logs" / "own" / "0" / "metrics.csv").read_text().splitlines()
    assert "mine/embedding_norm" in header.split(",")
    assert len(rows) > 2
    assert "step 4: " in capfd.readouterr().out


def test_the_callbacks_and_loggers_of_their_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "howto/callbacks-and-loggers.md"
    (command,) = blocks(page, "bash")
    monkeypatch.chdir(tmp_path)
    tiny = ["--data.modulus", "7", "--trainer.max_steps", "4", "--evaluation.every", "2"]
    tiny += ["--trainer.precision", "32-true", "--threads", "1"]
    assert main([*command.replace("\\\n", " ").replace('"', "").split()[1:], *tiny]) == 0
    assert list(Path("checkpoints/addition/0").glob("epoch=*.ckpt"))
    assert Path("lightning_logs/addition/0/CSVLogger/metrics.csv").exists()
    (listed,) = blocks(page, "yaml")
    content = yaml.safe_load(listed)
    content["trainer"]["logger"] = content["trainer"]["logger"][:1]  # wandb need not be installed
    Path("own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert main(["fit", "--config", "own.yaml", *tiny]) == 0
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {})


def test_the_measures_of_their_page_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "howto/measures.md"
    fit, validate = (block.replace("\\\n", " ") for block in blocks(page, "bash"))
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(fit)[1:], *TINY.split()]) == 0
    (asked,) = [word for word in shlex.split(validate) if "LearningCoefficient" in word]
    few = asked.replace("LearningCoefficient", "{class_path: LearningCoefficient, draws: 2, burn_in: 0}")
    assert main([few if word == asked else word for word in shlex.split(validate)[1:]]) == 0
    assert "learning/coefficient" in Path("lightning_logs/measured/0/validate.json").read_text(encoding="utf-8")
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {})


def test_an_own_network_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = blocks("howto/own-network.md", "bash")
    arguments = command.split()
    assert arguments[:3] == ["python", "-m", "grok_lightning"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    tiny = "--data.modulus 7 --trainer.max_steps 4 --evaluation.every 2 --trainer.precision 32-true --threads 1"
    assert main([*arguments[3:], *tiny.split()]) == 0
    assert (tmp_path / "lightning_logs" / "tiny" / "0" / "result.json").exists()
    names: dict[str, object] = {}
    for block in blocks("howto/own-network.md", "python"):
        exec(compile(block, "own-network.md", "exec"), names)
    assert type(names["network"]).__name__ == "TinyNet"


def test_the_measures_of_groups_of_their_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = next(block for block in blocks("howto/groups.md", "bash") if " fit " in block)
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(command.replace("\\\n", " "))[1:], *TINY.split()[2:]]) == 0
    header = (tmp_path / "lightning_logs" / "s4" / "0" / "metrics.csv").read_text().splitlines()[0]
    assert {"irreps/neurons_3-1", "irreps/excluded_loss_2-2", "cosets/x_6a"} <= set(header.split(","))


@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=() if place in (0, 2) else pytest.mark.slow) for place in range(6)]
)
def test_own_optimizers_and_schedulers_train(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block, _ = blocks("howto/own-optimizer.md", "bash")  # the other needs a package: test_optimizers_of_a_package.py
    commands = block.splitlines()
    assert len(commands) == 6
    words = commands[place].split()
    assert words[:3] == ["python", "-m", "grok_lightning"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    assert main([*words[3:], *TINY.split()]) == 0
    assert (tmp_path / "lightning_logs" / "addition" / "0" / "result.json").exists()


def test_own_optimizers_and_schedulers_in_yaml_and_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    (text,), (code,) = (blocks("howto/own-optimizer.md", language) for language in ("yaml", "python"))
    Path("own.yaml").write_text(text, encoding="utf-8")
    assert main(["fit", "--config", "own.yaml", *TINY.split()]) == 0
    assert "step_size: 1000" in Path("lightning_logs/own/0/config.yaml").read_text()
    values = [word.removeprefix("--").replace(".", "__") for word in TINY.split()]
    tiny = ", ".join(f"{name}={value!r}" for name, value in zip(values[::2], values[1::2], strict=True))
    exec(compile(code.replace("step_size=10", f"step_size=10, {tiny}"), "own-optimizer.md", "exec"), {})
    config = yaml.safe_load(Path("lightning_logs/addition/0/config.yaml").read_text())
    assert config["model"]["optimizer"]["class_path"] == "lion.Lion"
    assert config["model"]["scheduler"]["step_size"] == 10


def test_an_own_algebra_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = [block for block in blocks("howto/own-task.md", "bash") if "heisenberg" in block]
    arguments = command.split()
    assert arguments[:3] == ["python", "-m", "grok_lightning"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    tiny = "--model.network.width 8 --trainer.max_steps 4 --evaluation.every 2 --trainer.precision 32-true --threads 1"
    assert main([*arguments[3:], *tiny.split()]) == 0
    result = json.loads((tmp_path / "lightning_logs" / "heisenberg" / "0" / "result.json").read_text())
    assert result["algebra"] == "over the Heisenberg group mod 3"
    assert "fingerprint" in result["algebra_identity"]


def test_own_data_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (command,) = blocks("howto/own-data.md", "bash")
    arguments = command.split()
    assert arguments[:3] == ["python", "-m", "grok_lightning"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DOCS / "howto"))
    tiny = "--model.network.width 8 --trainer.max_steps 4 --evaluation.every 2 --trainer.precision 32-true --threads 1"
    assert main([*arguments[3:], *tiny.split()]) == 0
    result = json.loads((tmp_path / "lightning_logs" / "parity" / "0" / "result.json").read_text())
    assert result["algebra"] == "parity of 3 of 10 bits"
    (asked,) = [block for block in blocks("howto/own-data.md", "text") if "generate" in block]
    for line in asked.strip().splitlines():
        assert main(shlex.split(line)[1:]) == 0
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 201


def test_splits_are_written_and_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (page,) = blocks("howto/splits.md", "bash")
    monkeypatch.chdir(tmp_path)
    write, fit = [line.split()[1:] for line in page.strip().splitlines()]
    assert main([*write, "--data.modulus", "7"]) == 0
    tiny = "--data.modulus 7 --model.network.width 8 --trainer.max_steps 4 --evaluation.every 2 --threads 1"
    assert main([*fit, *tiny.split(), "--trainer.precision", "32-true"]) == 0
    counts = json.loads((tmp_path / "splits" / "splits.json").read_text())["counts"]
    assert counts == {"train": 19, "val": 14, "test": 16}


def test_what_became_of_archived_runs_is_shown_as_its_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)
    (block,) = blocks("howto/after-grok.md", "python")
    exec(compile(block, "after-grok.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[3:5] for line in shown[1:]] == [["False", "21"], ["False", "5"]]


@pytest.mark.slow
def test_a_checkpoint_is_inspected_as_its_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").symlink_to(PROJECT / "checkpoints")
    (command,) = blocks("howto/inspect.md", "bash")
    assert main(shlex.split(command)[1:]) == 0
    names: dict[str, Any] = {}
    for block in blocks("howto/inspect.md", "python"):
        exec(compile(block, "inspect.md", "exec"), names)
    assert names["inspection"].arrays["answers"].shape == (1, 97, 96)
    assert names["inspection"].arrays["part_accuracy"].shape == (1, 11, 3)
    assert names["frequencies"].shape == (512,)
    assert names["losses"].accuracy.shape == (2, 3)
    assert all((tmp_path / name).stat().st_size < 15e6 for name in ("division.html", "division-inspection.html"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(importlib.util.find_spec("furo") is None, reason="pip install -e '.[docs]'")
def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path / "trees"), str(DOCS)]
    built = subprocess.run([*command, str(site)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    options = (site / "reference" / "options.html").read_text(encoding="utf-8")
    for name in ("--model.network", "--evaluation.stop_after", "--trainer.precision", "--data.formula", "--stack_size"):
        assert name in options
    assert {page.stem for page in site.glob("inspection/*.html")} == {"division", "progress-measures"}
    for page in site.rglob("*.html"):
        content = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|source|iframe)[^>]+src=\"(?:https?:)?//", content), page
        assert not re.search(r"<link(?![^>]*canonical)[^>]+href=\"(?:https?:)?//", content), page
        assert re.search(r"<title>[^<]*\w", content), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet
