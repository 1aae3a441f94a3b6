"""Every command on a page of the documentation, and in the head of a config, is run as it stands, in the page's order.

Budgets alone are made small, and what a command needs that the page does not make is made before (``BEFORE``). What
cannot be run here is named with its reason (``NOT_RUN``); a new command is run or makes a test fail.
"""

import importlib.util
import os
import re
import shlex
import shutil
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from glob import glob
from pathlib import Path

import pytest
import yaml
from conftest import leave_out_images

from grok_lightning.__main__ import OTHER_COMMANDS, TRAINER_COMMANDS, main
from grok_lightning.options.shipped import shipped_configs, shipped_sweeps

HOME = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(
        str(page.relative_to(HOME))
        for page in (HOME / "docs").rglob("*.md")
        if not {"api", "options.md", "configs.md", "LOG.md", "ARCHITECTURE.md"} & {*page.parts, page.name}
    ),
]
BLOCK = re.compile(
    r"^```(?P<language>[^\n]*)\n(?P<block>.*?)^```|`(?P<inline>grok-lightning [a-z]+ [^`]+)`", re.M | re.S
)
PROGRAMS = r"(?:grok-lightning |python3? -m |make |pip |ray |source |\.venv/)"
TEMPLATE = re.compile(r"…|\.\.\.|\b(?:FILE|NAME|FOLDER|EXPERIMENT|CKPT|PROMPT)\b")

_NETWORK = "makes an environment from the network"
NOT_RUN = {  # commands by their beginnings, on a page or on all, with the reason
    ("README.md", "make demo"): f"{_NETWORK}; its fit is that of docs/start.md",
    (
        "README.md",
        "grok-lightning report addition-fractions",
    ): "hours: of the records; test_reproductions reports those",
    ("", "source .venv"): _NETWORK,
    ("docs/start.md", "python3 -m venv"): _NETWORK,
    ("docs/start.md", ".venv/bin/pip"): _NETWORK,
    ("docs/ten-commands.md", ""): "tests/project/test_ten_commands.py runs the whole page",
    ("docs/howto/clusters.md", ""): "needs Ray or SLURM: tests/ray",
    ("docs/howto/load.md", "grok-lightning fit --init_from grokking_demo.pth"): (
        "needs a file of others: tests/commands/test_init_from_others.py"
    ),
}
ELSEWHERE = {  # commands that test_docs.py and test_optimizers_of_a_package.py run, with what a page promises
    "docs/howto/own-classes.md": 1,
    "docs/howto/own-network.md": 1,
    "docs/howto/own-optimizer.md": 9,
    "docs/howto/own-data.md": 3,
    "docs/howto/splits.md": 2,
    "docs/howto/callbacks-and-loggers.md": 1,
}
NEEDS = {".safetensors": "safetensors", ".onnx": "onnxscript", "transformer_lens": "safetensors"}
FIT, DIVISION = "grok-lightning fit --config addition", "grok-lightning fit --config division"
SWEEP = "grok-lightning sweep fractions.yaml"
BEFORE = {  # what a page takes for granted
    "docs/howto/resume.md": [FIT],
    "docs/howto/reports.md": [SWEEP, FIT, DIVISION],
    "docs/howto/status.md": [FIT, DIVISION],
    "docs/howto/forecast.md": [f"{FIT} --experiment {name}" for name in ("addition-fractions", "my-experiment")],
}
FAST = ("README.md", "docs/start.md")
SMALL = [
    "--evaluation.per_decade",
    "0",
    "--evaluation.every",
    "3",
    "--trainer.precision",
    "32-true",
    "--threads",
    "1",
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
]
SWEEPS = {"trainer.max_steps": 3, "evaluation.per_decade": 0, "evaluation.every": 3, "trainer.precision": "32-true"}


def lines_of(block: str) -> Iterator[str]:
    """The commands of a block of a shell, without comments."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True) if line.strip() else []
        if words:
            yield shlex.join(words)


def commands_of_head(path: Path) -> list[str]:
    """The commands in the comment that a config begins with; those of a loop once for each word."""
    text = "".join(line[1:] for line in path.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    text = text.replace("\\\n", " ")
    loop = re.search(r"for (\w+) in (.*); do\n(.*); done", text)
    if loop is not None:
        each = [loop[3].replace(f"${loop[1]}", word) for word in shlex.split(loop[2])]
        text = text.replace(loop[0], "\n".join(each))
    return [line for found in re.findall(r"^ +(grok-lightning .*)", text, re.M) for line in lines_of(found)]


def commands(page: str) -> list[str]:
    """The commands of a page, in its order: those of blocks, and those of this program in its sentences."""
    text = (HOME / page).read_text(encoding="utf-8")
    found: list[str] = []
    for match in BLOCK.finditer(text):
        block, language = match["block"], match["language"]
        if match["inline"] is not None:
            found += [match["inline"]] if not TEMPLATE.search(match["inline"]) else []
        elif language == "bash" and not block.startswith("#!"):
            found += lines_of(block)
        elif language in ("", "text", "bash"):
            found += [line for each in re.findall(rf"^{PROGRAMS}.*", block, re.M) for line in lines_of(each)]
    return found


def reason_not_to_run(page: str, command: str) -> str | None:
    """Why a command is not run, if it is not."""
    listed = (why for (where, begin), why in NOT_RUN.items() if where in ("", page) and command.startswith(begin))
    lacking = (f"pip install {module}" for mark, module in NEEDS.items()
               if command.startswith("grok-lightning export") and mark in command
               and importlib.util.find_spec(module) is None)  # fmt: skip
    return next(listed, None) or next(lacking, None)


def arguments_of(command: str) -> list[str]:
    """What follows the program's name; nothing where it is another program."""
    words = shlex.split(command)
    if words[0] == "grok-lightning":
        return words[1:]
    return words[3:] if words[1:3] == ["-m", "grok_lightning"] else []


def shrunk(arguments: list[str]) -> list[str]:
    """A command with a small budget."""
    if arguments[0] == "fit" and "--print_config" not in arguments:
        steps = "--num_steps" if "--num_steps" in arguments else "--trainer.max_steps"
        return [*arguments, *SMALL, steps, "6" if "--ckpt_path" in arguments else "3"]
    if arguments[:2] == ["speedrun", "verify"]:
        return [*arguments, "--runs", "1", "--after", "0", "--workers", "1"]
    if arguments[0] == "status" and "--watch" in arguments:  # which goes on until Ctrl-C: tests/status
        return arguments[: arguments.index("--watch")]
    if arguments[0] == "sweep" and arguments[1] in (
        *shipped_sweeps(),
        *(name.split("/")[-1] for name in shipped_sweeps()),
    ):
        return [*arguments, "--dry-run"]
    return [*arguments, "--workers", "1"] if arguments[:2] == ["sweep", "fractions.yaml"] else arguments


def expand(word: str) -> list[str]:
    """A word as a shell hands it over: a pattern as the files that it matches."""
    return sorted(glob(word)) if word.endswith("/*.parquet") else [word]


def run(command: str) -> None:
    """Runs a command in this process. Checkpoints that a small budget did not reach are the last one."""
    arguments = [found for word in shrunk(arguments_of(command)) for found in expand(word)]
    for named in (Path(word) for word in arguments if word.endswith(".ckpt")):
        if not named.exists() and named.with_name("last.ckpt").exists():
            shutil.copy(named.with_name("last.ckpt"), named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            status = main(arguments)
        except SystemExit as done:
            status = int(done.code or 0)
    os.environ.pop("GROK_LIGHTNING_RUN", None)
    assert status == 0, command


def write_files(page: str) -> None:
    """What a page shows as a file, beside the files of a clone that commands name."""
    text = (HOME / page).read_text(encoding="utf-8")
    if page == "docs/howto/forecast.md":
        shutil.copy("docs/science/reproductions/addition-fractions.parquet", "mine.parquet")
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S):
        name = re.match(r"# ([\w-]+\.yaml)", block)
        content = yaml.safe_load(block)
        if content.get("grid", {}).keys() == {"data.train_fraction", "seed_everything"}:
            content["set"] |= SWEEPS | {"data.modulus": 11}
            content["grid"]["seed_everything"] = [0]
            Path("fractions.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        elif name is not None:
            Path(name[1]).write_text(block, encoding="utf-8")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A directory in which a sweep's file was run once."""

    @cache
    def run_once(content: str) -> Path:
        directory = tmp_path_factory.mktemp("swept")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(directory)
            leave_out_images(patch)
            Path("fractions.yaml").write_text(content, encoding="utf-8")
            run(SWEEP)
        return directory

    return run_once


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page in FAST else pytest.mark.slow) for page in PAGES if page not in ELSEWHERE],
)
def test_the_commands_of_a_page_run_in_order(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swept: Callable[[str], Path]
) -> None:
    wanted = [command for command in commands(page) if reason_not_to_run(page, command) is None]
    wanted = [command for command in wanted if arguments_of(command)]
    if not wanted:
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HOME / "docs" / "howto"))
    Path("checkpoints").mkdir()
    Path("checkpoints/reference").symlink_to(HOME / "checkpoints" / "reference")
    Path("docs").symlink_to(HOME / "docs")
    write_files("docs/tutorial.md" if page == "docs/howto/reports.md" else page)
    for command in [*BEFORE.get(page, []), *wanted]:
        if command == SWEEP:
            shutil.copytree(swept(Path("fractions.yaml").read_text(encoding="utf-8")), ".", dirs_exist_ok=True)
        else:
            run(command)


HEADS = {name: commands_of_head(path) for name, path in shipped_configs().items()}
FURTHER = {name: found for name, found in HEADS.items() if len(found) > 1}  # besides those that test_configs runs
FIRST = {"blog2023/finetune": ["grok-lightning fit --config blog2023/subtraction"]}


def test_every_head_begins_with_the_command_that_is_run_for_it() -> None:
    for name, found in HEADS.items():
        begun = f"grok-lightning fit --config {name}"
        assert found[0] in (begun, *(f"{begun} --init_from checkpoints/blog2023-subtraction/0",))
    assert sum(map(len, FURTHER.values())) > 30
    for path in shipped_sweeps().values():
        assert [command.split()[:2] for command in commands_of_head(path)] == [["grok-lightning", "sweep"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FURTHER, *FIRST])
def test_the_further_commands_of_a_head_run_in_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    needed = any("checkpoints/" in command for command in HEADS[name])
    for command in [*FIRST.get(name, []), *(HEADS[name] if needed else HEADS[name][1:])]:
        run(command)


def test_commands_are_run_or_listed_with_a_reason() -> None:
    found = {page: commands(page) for page in PAGES}
    assert sum(map(len, found.values())) > 50
    for page, own in found.items():
        for command in own:
            known = arguments_of(command)[:1]
            ours = bool(known) and known[0] in (*TRAINER_COMMANDS, *OTHER_COMMANDS)
            assert ours or reason_not_to_run(page, command), f"{page}: no test runs `{command}`"
    assert {page: len(found[page]) for page in ELSEWHERE} == ELSEWHERE
    for page, begin in NOT_RUN:  # none of them is out of date
        assert any(command.startswith(begin) for own in ([found[page]] if page else found.values()) for command in own)


def test_a_command_that_nothing_runs_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("```bash\nnpm start\n```\nand `grok-lightning nothing there`\n", encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.HOME", tmp_path)
    assert commands("page.md") == ["npm start", "grok-lightning nothing there"]
    assert not arguments_of("npm start")
    assert reason_not_to_run("page.md", "npm start") is None
