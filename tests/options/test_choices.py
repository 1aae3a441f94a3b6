"""Options that are auto: resolved before anything is built, recorded, said, and kept on resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import TINY

from grok_lightning.hardware import products as machine
from grok_lightning.hardware.compilation import Graph, compile_seconds, is_worth, remember
from grok_lightning.hardware.products import FULL, HALF, Product
from grok_lightning.options import choices
from grok_lightning.options.arguments import read_config
from grok_lightning.options.choices import CHOSEN_BY_PARENT, choose_compile, work_of
from grok_lightning.options.merging import complete
from grok_lightning.options.shipped import shipped_configs
from grok_lightning.records.checkpoint import CONFIG_KEY, load, save

Command = Callable[..., tuple[int, str, str]]
SHORT = [*TINY, "--experiment", "e", "--trainer.max_steps", "3"]
FASTER, SLOWER = 2.0, 0.1


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets how many times as fast bf16-mixed is, and every further thread."""

    def set_speed(half: float) -> None:
        def seconds(product: Product, precision: str, *_: Any, count: int = 1, **__: Any) -> float:
            return (1 / half if precision == HALF else 1.0) / count

        monkeypatch.setattr(machine, "product_seconds", seconds)

    return set_speed


@pytest.fixture
def printed(command: Command, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """What ``fit --print_config`` prints, read as YAML."""

    def read(*options: str) -> Any:
        with pytest.raises(SystemExit, match="0"):
            command("fit", *SHORT, *options, "--print_config")
        return yaml.safe_load(capsys.readouterr().out)

    return read


def config_of(run: str) -> dict[str, Any]:
    return dict(yaml.safe_load(Path(f"lightning_logs/e/{run}/config.yaml").read_text()))


def result_of(run: str) -> dict[str, Any]:
    return dict(json.loads(Path(f"lightning_logs/e/{run}/result.json").read_text()))


@pytest.mark.parametrize(("half", "chosen", "words"), [
    (FASTER, HALF, "2.0 times as fast as 32-true here"),
    (1.1, FULL, "bf16-mixed is only 1.1 times as fast here"),
    (SLOWER, FULL, "bf16-mixed is 10.0 times slower here"),
])  # fmt: skip
def test_auto_is_recorded_as_what_it_came_to(
    command: Command, speed: Callable[[float], None], half: float, chosen: str, words: str
) -> None:
    speed(half)
    status, out, err = command("fit", *SHORT, "--run", "auto", "--trainer.precision", "auto")
    assert (status, err) == (0, "")
    assert f"precision: {chosen} (auto: {words})\n" in out
    assert command("fit", *SHORT, "--run", "said", "--trainer.precision", chosen)[0] == 0
    assert config_of("auto")["trainer"]["precision"] == chosen
    assert load(Path("checkpoints/e/auto/last.ckpt"))[CONFIG_KEY]["trainer"]["precision"] == chosen
    assert result_of("auto")["config_hash"] == result_of("said")["config_hash"]


def test_bare_fit_and_explicit_precisions_are_not_chosen(command: Command, speed: Callable[[float], None]) -> None:
    speed(FASTER)
    assert "precision" not in command("fit", *SHORT, "--run", "bare")[1]
    assert config_of("bare")["trainer"]["precision"] == FULL


def test_print_config_prints_the_choice_and_nothing_else(
    printed: Callable[..., Any], speed: Callable[[float], None]
) -> None:
    speed(FASTER)
    found = printed("--trainer.precision", "auto", "--model.compile", "auto", "--threads", "auto")
    assert (found["trainer"]["precision"], found["model"]["compile"]) == (HALF, False)
    assert type(found["threads"]) is int


def test_resuming_and_evaluating_keep_the_checkpoints_precision(
    command: Command, speed: Callable[[float], None]
) -> None:
    speed(FASTER)
    assert command("fit", *SHORT, "--run", "a", "--trainer.precision", "auto")[0] == 0
    speed(SLOWER)
    more = ["--trainer.precision", "auto", "--trainer.max_steps", "6"]
    status, out, err = command("fit", "--experiment", "e", "--run", "a", "--ckpt_path", "last", *more)
    assert (status, err) == (0, "")
    assert "precision" not in out
    assert config_of("a")["trainer"]["precision"] == HALF
    path = "checkpoints/e/a/last.ckpt"
    assert command("validate", "--ckpt_path", path, "--trainer.precision", "auto")[0] == 0
    evaluated = yaml.safe_load(Path("lightning_logs/e/a/config-validate.yaml").read_text())
    assert evaluated["trainer"]["precision"] == HALF
    assert "threads" not in evaluated


def test_who_asks_for_an_emulated_precision_is_told_and_gets_it(
    command: Command, speed: Callable[[float], None]
) -> None:
    speed(SLOWER)
    status, _, err = command("fit", *SHORT, "--run", "a", "--trainer.precision", "bf16-mixed")
    assert status == 0
    assert err == (
        "grok-lightning: --trainer.precision bf16-mixed is 10.0 times slower than 32-true on this CPU; "
        "write --trainer.precision auto (or 32-true)\n"
    )
    assert config_of("a")["trainer"]["precision"] == HALF


def test_processes_of_one_fit_agree(
    command: Command, printed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, speed: Callable[[float], None]
) -> None:
    speed(SLOWER)
    monkeypatch.setenv("WORLD_SIZE", "2")
    options = ["--run", "a", "--trainer.precision", "auto"]
    status, _, err = command("fit", *SHORT, *options)
    assert status == 2
    assert "--trainer.precision is auto; several processes need one to agree on" in err
    monkeypatch.setenv(CHOSEN_BY_PARENT, json.dumps({"trainer.precision": HALF}))
    assert printed(*options)["trainer"]["precision"] == HALF


def test_threads_are_chosen_recorded_and_kept(
    command: Command, monkeypatch: pytest.MonkeyPatch, speed: Callable[[float], None]
) -> None:
    speed(1.0)
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(choices, "cores", lambda: 2)
    try:
        status, out, _ = command("fit", *SHORT, "--run", "a")
        assert status == 0
        assert "threads: 2 (auto: 2.0 times as fast as 1 here)\n" in out
        assert (torch.get_num_threads(), config_of("a")["threads"]) == (2, 2)
        monkeypatch.setattr(choices, "cores", lambda: 1)
        torch.set_num_threads(1)
        resume = ["--experiment", "e", "--run", "a", "--ckpt_path", "last", "--trainer.max_steps", "6"]
        assert command("fit", *resume)[0] == 0
        assert (torch.get_num_threads(), config_of("a")["threads"]) == (2, 2)
        assert command("fit", *SHORT, "--run", "one", "--threads", "1", "--trainer.max_steps", "6")[0] == 0
        assert torch.get_num_threads() == 1
        assert result_of("one")["config_hash"] == result_of("a")["config_hash"]
    finally:
        torch.set_num_threads(before)


def test_a_checkpoint_without_threads_is_resumed(command: Command) -> None:
    assert command("fit", *SHORT, "--run", "a")[0] == 0
    path = Path("checkpoints/e/a/last.ckpt")
    whole = load(path)
    del whole[CONFIG_KEY]["threads"]
    save(whole, path)
    resume = ["--experiment", "e", "--run", "a", "--ckpt_path", "last", "--trainer.max_steps", "6"]
    assert command("fit", *resume)[0] == 0


@pytest.mark.parametrize("threads", ["0", "-1", "many", "1.5"])
def test_a_wrong_number_of_threads_is_refused(command: Command, threads: str) -> None:
    status, _, err = command("fit", *SHORT, "--threads", threads)
    assert status == 2
    assert err.startswith("grok-lightning: --threads is ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", shipped_configs())
def test_the_products_of_every_config_can_be_read_from_its_options(name: str) -> None:
    work = work_of(complete(read_config(shipped_configs()[name])))
    assert min(work.product.rows, work.product.inputs, work.product.outputs) >= 1
    assert work.products >= 1


@pytest.mark.parametrize(
    ("options", "product"),
    [
        ({}, Product(1024, 128, 512)),
        ({"model": {"network": {"width": 32, "feedforward": 16}}}, Product(1024, 32, 32)),
        ({"model": {"network": {"class_path": "grok_lightning.models.LSTM", "hidden": 64}}}, Product(512, 64, 256)),
        (
            {
                "model": {"network": {"class_path": "grok_lightning.models.MLP", "hidden": [300, 200]}},
                "data": {"batch_size": "full", "modulus": 10},
            },
            Product(50, 256, 300),
        ),
        ({"data": {"batch_size": "paper"}}, Product(1024, 128, 512)),
    ],
)
def test_the_largest_product_is_that_of_the_network(options: dict[str, Any], product: Product) -> None:
    assert work_of(complete(options)).product == product


@pytest.mark.parametrize(
    ("steps", "fits", "compiled"), [(10, 1, False), (1_000_000, 1, True), (2_000, 1, False), (2_000, 50, True)]
)
def test_compiling_must_pay_within_the_steps_to_come(
    monkeypatch: pytest.MonkeyPatch, steps: int, fits: int, compiled: bool
) -> None:
    monkeypatch.setattr(choices, "step_seconds", lambda config: 0.02)
    monkeypatch.setattr(choices, "compile_seconds", lambda graph, kind: {"cold": 30.0, "warm": 4.0}[kind])
    monkeypatch.setattr(choices, "can_compile", lambda device: True)
    config = complete({"trainer": {"accelerator": "cpu", "precision": FULL}})
    assert choose_compile(config, steps, fits) is compiled
    monkeypatch.setattr(choices, "can_compile", lambda device: False)
    assert not choose_compile(config, steps, fits)


def test_auto_compiles_where_the_steps_to_come_are_worth_it(
    printed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grok_lightning.options.choices.choose_compile", lambda config, steps: steps == 3)
    assert printed("--model.compile", "auto")["model"]["compile"] is True
    assert printed("--model.compile", "auto", "--trainer.max_steps", "4")["model"]["compile"] is False


def test_what_compiling_took_is_remembered() -> None:
    graph = Graph("Transformer", 2, "cpu", HALF)
    noisy = Graph("Transformer", 2, "cpu", HALF, noisy=True)
    assert compile_seconds(graph, "cold") > compile_seconds(graph, "warm") > 0
    remember(graph, "cold", 12.5)
    remember(graph, "warm", 2.5)
    assert (compile_seconds(graph, "cold"), compile_seconds(graph, "warm")) == (12.5, 2.5)
    assert compile_seconds(noisy, "cold") != 12.5


def test_a_damaged_memory_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "remembered.json"
    monkeypatch.setattr("grok_lightning.hardware.compilation._file", lambda: path)
    graph = Graph("Transformer", 1, "cpu", FULL)
    for damaged in ("", "[1]", '{"a": 3}', '{"a": {"cold": "x"}}'):
        path.write_text(damaged)
        assert compile_seconds(graph, "cold") > 0
    remember(graph, "cold", 9.0)
    assert compile_seconds(graph, "cold") == 9.0


def test_more_of_anything_that_is_saved_never_speaks_against_compiling() -> None:
    worth = [is_worth(steps, 0.02, 30.0, 3, 4.0) for steps in (0, 10, 1_000, 100_000)]
    assert worth == sorted(worth)
    assert not worth[0]
    assert worth[-1]


def test_on_a_gpu_steps_are_compiled_unless_there_are_few_or_somebody_says_no(
    printed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choices, "device_type", lambda accelerator: "cuda")
    monkeypatch.setattr(choices, "can_compile", lambda device: device == "cuda")
    assert printed("--trainer.max_steps", "300")["model"]["compile"] is True
    assert printed("--trainer.max_steps", "299")["model"]["compile"] is False
    assert printed("--trainer.max_steps", "300", "--model.compile", "false")["model"]["compile"] is False
