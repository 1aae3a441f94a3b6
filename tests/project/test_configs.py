"""Every shipped config goes through the real command, is found by its name, and is listed."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from grok_lightning.errors import UserError
from grok_lightning.options.shipped import (
    experiment_of,
    find_config,
    find_sweep,
    shipped_configs,
    shipped_sweeps,
    title_of,
)
from grok_lightning.sweep.plan import sizes

Command = Callable[..., tuple[int, str, str]]
SHIPPED, SWEEPS = shipped_configs(), shipped_sweeps()
HOME = Path(__file__).parents[2]
WIDTH = 100


def stem(name: str) -> str:
    return name.rsplit("/", 1)[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_fits(command: Command, name: str) -> None:
    short = ["--trainer.max_steps", "3", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    seldom = ["--evaluation.per_decade", "0", "--evaluation.every", "3"]
    status, _, err = command("fit", "--config", name, *short, *seldom)
    assert (status, err) == (0, "")
    assert Path(f"lightning_logs/{name.replace('/', '-')}/0/result.json").exists()


def test_shipped_configs_of_one_name_are_experiments_of_their_own(tmp_path: Path) -> None:
    names = [experiment_of(path) for path in shipped_configs().values()]
    assert len(set(names)) == len(names)
    assert {"division", "power2022-division", "coursework-division"} <= set(names)
    assert experiment_of(tmp_path / "division.yaml") == "division"


def test_a_shipped_config_says_what_it_is_and_how_to_run_it() -> None:
    for name, path in SHIPPED.items():
        lines = path.read_text().splitlines()
        header = "\n".join(line for line in lines if line.startswith("#"))
        assert f"grok-lightning fit --config {name}" in header
        assert len(lines) <= 40, name


def test_headers_name_configs_that_are_there() -> None:
    for path in [*SHIPPED.values(), *SWEEPS.values()]:
        for written in re.findall(r"fit --config (\S+)", path.read_text()):
            assert written in SHIPPED, path


def test_everyday_configs_come_first_and_lie_in_no_folder() -> None:
    names = list(SHIPPED)
    everyday = [name for name in names if "/" not in name]
    assert names[: len(everyday)] == everyday
    assert {"addition", "division", "s5", "k-ary-sum", "speedrun"} <= set(everyday)


@pytest.mark.parametrize(
    ("find", "shipped", "folder"), [(find_config, SHIPPED, "configs/"), (find_sweep, SWEEPS, "configs/sweeps/")]
)
def test_a_name_is_found_with_its_folder_and_without_where_only_one_has_it(
    find: Callable[[str], Path], shipped: dict[str, Path], folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    several = Counter(map(stem, shipped))
    for name, path in shipped.items():
        assert {find(written) for written in (name, f"{name}.yaml", f"{folder}{name}.yaml", str(path))} == {path}
        if several[stem(name)] == 1:
            assert find(stem(name)) == path
        elif stem(name) not in shipped:
            candidates = [other for other in shipped if stem(other) == stem(name)]
            with pytest.raises(UserError, match=re.escape(f"; write {' or '.join(candidates)}")):
                find(stem(name))


def test_an_ambiguous_name_is_refused_with_its_candidates(command: Command) -> None:
    status, _, err = command("fit", "--config", "lstm")
    assert status == 2
    assert "write coursework-followup/lstm or coursework-unfinished/lstm" in err
    status, out, err = command("configs", "progress-measures")
    assert (status, out) == (2, "")
    assert "write nanda2023/progress-measures or sweeps/models/progress-measures" in err


@pytest.mark.parametrize(
    ("written", "nearest"),
    [
        ("power2022/divison", "power2022/division"),
        ("power202/mixed", "power2022/mixed"),
        ("orthogonal-gradiant", "prieto2025/orthogonal-gradient"),
        ("speedrunn", "speedrun"),
        ("lstmm", "coursework-followup/lstm or coursework-unfinished/lstm"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(command: Command, written: str, nearest: str) -> None:
    for words in (["fit", "--config", written], ["configs", written]):
        status, out, err = command(*words)
        assert (status, out) == (2, "")
        assert err.endswith(f"; did you mean {nearest}?\n")


def test_a_name_like_no_other_is_told_where_names_are_listed(command: Command) -> None:
    for words in (["fit", "--config", "qqqqq"], ["configs", "qqqqq"], ["sweep", "qqqqq"]):
        status, _, err = command(*words)
        assert status == 2
        assert err.endswith("; `grok-lightning configs` lists them\n")


def test_a_misspelt_sweep_gets_the_nearest(command: Command) -> None:
    status, _, err = command("sweep", "adition-seeds", "--dry-run")
    assert status == 2
    assert err.endswith("no shipped sweep of that name; did you mean addition-seeds?\n")


def test_configs_are_listed_by_folder_each_in_one_line(command: Command) -> None:
    status, out, _ = command("configs")
    assert status == 0
    assert max(map(len, out.splitlines())) <= WIDTH
    found = []
    for number, block in enumerate(out.rstrip("\n").split("\n\n")):
        heading, *lines = block.splitlines()
        folder, described = heading.split(": ", 1)
        assert described
        for line in lines:
            name, title = line.split(maxsplit=1)
            found.append(f"{folder}/{name}" if number else name)
            assert title.endswith((".", "?"))
    assert found == [*SHIPPED, *(f"sweeps/{name}" for name in SWEEPS)]


def test_the_folder_of_a_source_names_its_arxiv_number_or_its_repository() -> None:
    for folder in {path.parent for name, path in SHIPPED.items() if "/" in name}:
        described = (folder / "README.md").read_text()
        assert described.count("\n") == 1
        published = re.search(r"arXiv \d{4}\.\d{5}\b|https://github\.com/\w+/\w+", described)
        assert published or folder.name.startswith(("blog", "coursework"))


def test_a_title_is_the_first_sentence_of_the_comment(tmp_path: Path) -> None:
    for text, title in (
        ("# x / y at 0.5, and\n# so on. More.\n#\n# not this.\n", "x / y at 0.5, and so on."),
        ("# Does it? Yes.\ndata: {}\n", "Does it?"),
        ("# no end\ndata: {}\n", "no end"),
        ("data: {}\n", ""),
    ):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        assert title_of(path) == title


def test_the_file_of_a_name_is_printed(command: Command) -> None:
    for name, path in (("s5", SHIPPED["s5"]), ("muon", SHIPPED["tveit2025/muon"])):
        assert command("configs", name) == (0, path.read_text(), "")
    both = command("configs", "division", "sweeps/fractions/division-fractions")[1]
    assert both == f"{SHIPPED['division'].read_text()}\n{SWEEPS['fractions/division-fractions'].read_text()}"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("addition-seeds", "training/dropout") else pytest.mark.slow)
        for name in SWEEPS
    ],
)
def test_a_shipped_sweep_can_be_planned(command: Command, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (HOME / "docs" / "science" / "reproductions" / f"{stem(name)}.parquet").exists():
        monkeypatch.setattr(sizes, "MOST_TRIALS", 4)  # its runs were trained, so that they can be built is known
    Path("checkpoints").symlink_to(HOME / "checkpoints")  # one begins with a shipped model
    status, out, err = command("sweep", name, "--dry-run")
    assert (status, err) == (0, "")
    assert out.startswith(f"{stem(name)}: ")
    assert not Path("lightning_logs").exists()
    assert f"grok-lightning sweep {stem(name)}\n" in SWEEPS[name].read_text()


def test_no_two_sweeps_share_the_name_of_their_experiment() -> None:
    assert len(set(map(stem, SWEEPS))) == len(SWEEPS)


@pytest.mark.slow
def test_a_built_package_carries_the_configs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*build, str(HOME)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    listed = subprocess.run([sys.executable, "-m", "zipfile", "-l", str(wheel)], capture_output=True, text=True)
    for path in (HOME / "configs").rglob("*.*"):
        assert f"grok_lightning/{path.relative_to(HOME).as_posix()} " in listed.stdout
