"""Options and files that would take all time or memory, or are no numbers, are refused in one line at once."""

import os
from pathlib import Path

import pytest

LAUGHS = ", ".join([
    "a0: &a0 [x, x, x, x, x, x, x, x, x, x]",
    *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)),
])  # fmt: skip
DEEP = "[" * 5000
OPTIONS = [
    *((option, value) for option in ("model.network", "data.formula", "trainer.callbacks", "measures")
      for value in (f"{{{LAUGHS}}}", DEEP, "[" * 100 + "]" * 100, "&a [*a]", "{b: &a {c: *a}}")),
    *((option, value) for option in ("trainer.max_steps", "model.optimizer.lr", "data.modulus", "evaluation.every")
      for value in ("9" * 5000, f"1{'0' * 400}", "nan", ".inf", "-.inf", "1e400", "１２", "٣", "-９")),
    *(("seed_everything", value) for value in ("9" * 5000, "nan", "１２", "1e3", DEEP)),
    *(("threads", value) for value in ("２", "9" * 5000, "nan")),
    *(("model.optimizer.betas", value) for value in ("[.nan, 0.9]", "[1e400, 0.9]", "[.inf, .inf]")),
]  # fmt: skip
FILES = [
    f"data: {{{LAUGHS}}}",
    "data: &a {formula: x, b: *a}",
    f"data: {DEEP}",
    "\n".join(f"key{n}: {n}" for n in range(300_000)),
    f"trainer: {{max_steps: {'9' * 5000}}}",
    f"trainer: {{max_steps: {'9' * 299}}}",
    f"model: {{optimizer: {{lr: {'9' * 299}000000000000}}}}",
    "model: {optimizer: {lr: .nan}}",
    "model: {optimizer: {lr: .inf}}",
    "x: " + "y" * 5_000_000,
]


def is_one_line(status: int, told: str, err: str) -> None:
    assert (status, told, err.count("\n")) == (2, "", 1), err
    assert len(err) < 1500
    assert err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("place", range(len(OPTIONS)))
def test_values_on_the_command_line(command, place: int) -> None:
    option, value = OPTIONS[place]
    outcome = command("fit", "--experiment", "e", "--run", "0", f"--{option}", value)
    is_one_line(*outcome)
    assert option.rpartition(".")[0] in outcome[2]


@pytest.mark.parametrize("place", range(len(FILES)))
@pytest.mark.parametrize("called", ["fit", "sweep"])
def test_files(command, place: int, called: str) -> None:
    Path("a.yaml").write_text(FILES[place])
    if called == "sweep":
        Path("a.yaml").write_text(
            "set:\n" + "\n".join(f"  {line}" for line in FILES[place].splitlines()) + "\ngrid: {seed_everything: [0]}"
        )
    is_one_line(*(command("fit", "--config", "a.yaml") if called == "fit" else command("sweep", "a.yaml", "--dry_run")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
def test_what_is_no_file_to_read(command, tmp_path: Path) -> None:
    os.mkfifo("fifo")
    os.mkfifo("fifo.parquet")
    Path("folder.yaml").mkdir()
    for path in ("fifo", "/dev/zero", "folder.yaml"):
        is_one_line(*command("fit", "--config", path))
        is_one_line(*command("sweep", path))
    for option in ("trainer.callbacks", "trainer.logger"):
        is_one_line(*command("fit", "--experiment", "e", "--run", "0", f"--{option}", "fifo"))
    is_one_line(*command("report", "fifo.parquet"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "２"], "--workers is '２'"),
        (["--workers", "9" * 5000], "(5,000 characters)"),
        (["--shard", "١/٢"], "--shard is '١/٢'"),
        (["--stack_size", "1\n"], r"--stack_size is '1\n'"),
    ],
)
def test_numbers_of_a_sweep(command, arguments: list[str], words: str) -> None:
    Path("a.yaml").write_text("grid: {seed_everything: [0]}")
    outcome = command("sweep", "a.yaml", *arguments)
    is_one_line(*outcome)
    assert words in outcome[2]


def test_a_sweep_of_too_many_runs_is_refused_before_it_is_made(command) -> None:
    for grid in ("{seed_everything: 0..999999999}", "{seed_everything: 0..999999, data.split_seed: 0..999}"):
        Path("a.yaml").write_text(f"grid: {grid}")
        outcome = command("sweep", "a.yaml")
        is_one_line(*outcome)
        assert "1,000,000,000 combinations" in outcome[2]
    Path("a.yaml").write_text("grid: {seed_everything: 0..１}")
    is_one_line(*command("sweep", "a.yaml"))


def test_a_large_seed_and_a_date_are_what_they_were(command) -> None:
    with pytest.raises(SystemExit) as ended:
        command("fit", "--experiment", "e", "--run", "2026-11-11", "--seed_everything", 10**30, "--print_config")
    assert ended.value.code == 0
