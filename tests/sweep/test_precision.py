"""The precision of a sweep: auto where nobody says one, and the same for as long as the sweep lives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_sweeps import EASY, results, write
from training_here import train_here

from grok_lightning.hardware import products as machine
from grok_lightning.hardware.products import FULL, HALF, Product
from grok_lightning.options.choices import Precision
from grok_lightning.options.classes import lookup
from grok_lightning.options.shipped import shipped_sweeps
from grok_lightning.sweep import command as sweep_command
from grok_lightning.sweep.file import read_grid
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan.precision import KEPT, keep_precision
from grok_lightning.sweep.plan.runs import read_plan

Command = Callable[..., tuple[int, str, str]]
SEEDS = {"seed_everything": [0, 1]}
NOBODY = EASY | {"trainer.precision": None}


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Sets whether bf16-mixed is fast or emulated."""

    def set_fast(half: bool) -> None:
        def seconds(product: Product, precision: str, *_: Any, **__: Any) -> float:
            return (0.5 if half else 9.0) if precision == HALF else 1.0

        monkeypatch.setattr(machine, "product_seconds", seconds)

    return set_fast


def hashes(path: Path, root: Path | None = None) -> list[str]:
    return [run.hash for run in read_plan(path, root).runs]


@pytest.mark.parametrize("said", [None, "auto"])
@pytest.mark.parametrize(("half", "chosen"), [(True, HALF), (False, FULL)])
def test_where_nobody_says_auto_applies_and_is_one_with_the_explicit(
    command: Command, fast: Callable[[bool], None], said: str | None, half: bool, chosen: str
) -> None:
    fast(half)
    path = write("e", SEEDS, **EASY | {"trainer.precision": said})
    status, out, err = command("sweep", path, "--dry-run")
    assert (status, err) == (0, "")
    assert f"  precision  {chosen} (auto: " in out
    assert not Path("lightning_logs").exists()
    explicit = write("explicit", SEEDS, **EASY | {"trainer.precision": chosen})
    assert hashes(path) == hashes(explicit)


def test_a_sweep_keeps_the_precision_that_it_began_with(
    command: Command, monkeypatch: pytest.MonkeyPatch, fast: Callable[[bool], None]
) -> None:
    fast(True)
    train_here(monkeypatch)
    path = write("e", SEEDS, **NOBODY)
    status, out, _ = command("sweep", path, "--shard", "1/2")
    assert status == 0
    assert f"e: precision {HALF} (auto: 2.0 times as fast as 32-true here)\n" in out
    fast(False)
    assert "1 not done" in command("sweep", "status", path)[1]
    dry = command("sweep", path, "--dry-run")[1]
    assert f"  precision  {HALF} (auto, chosen when the sweep began)" in dry
    assert "1 over, 1 to do" in dry
    assert command("sweep", path)[0] == 0
    assert {result["precision"] for result in results("e").values()} == {HALF}
    grown = write("e", {"seed_everything": [0, 1, 2]}, **NOBODY)
    assert "2 over, 1 to do" in command("sweep", grown, "--dry-run")[1]
    said = write("e", SEEDS, **EASY | {"trainer.precision": FULL})
    assert "0 over, 2 to do" in command("sweep", said, "--dry-run")[1]


def test_a_sweep_that_another_process_has_just_begun_goes_on_with_its_precision(
    command: Command, monkeypatch: pytest.MonkeyPatch, fast: Callable[[bool], None]
) -> None:
    """As the tasks of an array job do that begin together on unlike machines."""
    fast(False)
    train_here(monkeypatch)
    path = write("e", SEEDS, **NOBODY)
    own = sweep_command.keep_precision

    def beaten(places: Places, precision: Precision) -> bool:
        places.own.mkdir(parents=True)
        (places.own / KEPT).write_text(f'{{"trainer.precision": "{HALF}"}}')
        return own(places, precision)

    monkeypatch.setattr(sweep_command, "keep_precision", beaten)
    status, out, _ = command("sweep", path)
    assert status == 0
    assert f"e: precision {HALF} (auto, chosen when the sweep began)\n" in out
    assert {result["precision"] for result in results("e").values()} == {HALF}


def test_the_first_to_begin_decides(tmp_path: Path) -> None:
    places = Places(tmp_path, "e")
    assert keep_precision(places, Precision(HALF, 2.0))
    assert keep_precision(places, Precision(HALF, None))
    assert not keep_precision(places, Precision(FULL, 1.0))


@pytest.mark.parametrize("damaged", ["", "[]", '{"trainer.precision": "16-mixed"}', "{"])
def test_a_damaged_choice_is_refused(command: Command, damaged: str) -> None:
    path, places = write("e", SEEDS, **NOBODY), Places(Path(), "e")
    places.own.mkdir(parents=True)
    (places.own / KEPT).write_text(damaged)
    status, _, err = command("sweep", path, "--dry-run")
    assert status == 2
    assert "precision.json' is damaged; remove it, and write trainer.precision into the sweep's file" in err


def test_the_largest_product_of_all_runs_decides_for_all(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Product] = []
    monkeypatch.setattr(machine, "product_seconds", lambda product, *_, **__: measured.append(product) or 1.0)
    network = [{"class_path": "MLP", "hidden": [size]} for size in (8, 300, 20)]
    read_plan(write("e", SEEDS | {"model.network": network}, **NOBODY | {"data.batch_size": 100}))
    assert set(measured) == {Product(100, 256, 300)}


def test_auto_among_others_of_a_grid(command: Command, fast: Callable[[bool], None]) -> None:
    fast(True)
    path = write("e", SEEDS | {"trainer.precision": ["auto", "64-true"]}, **EASY)
    assert [lookup(read_plan(path).config(run, "r"), "trainer.precision") for run in read_plan(path).runs] == [
        *(HALF, "64-true"),
        *(HALF, "64-true"),
    ]


def test_who_asks_for_an_emulated_precision_is_told_once(command: Command, fast: Callable[[bool], None]) -> None:
    fast(False)
    path = write("e", SEEDS, **EASY | {"trainer.precision": HALF})
    status, _, err = command("sweep", path, "--dry-run")
    assert status == 0
    assert err == (
        "e.yaml: --trainer.precision bf16-mixed is 9.0 times slower than 32-true on this CPU; "
        "write --trainer.precision auto (or 32-true)\n"
    )


@pytest.mark.parametrize(
    "name",
    [  # some take an optimizer of a package that the fast tests go without
        pytest.param(name, marks=[pytest.mark.slow] if "pytorch_optimizer" in path.read_text() else [])
        for name, path in shipped_sweeps().items()
    ],
)
def test_a_shipped_sweep_says_the_precision_of_its_records(name: str) -> None:
    grid = read_grid(name)
    said = lookup(grid.fixed, "trainer.precision")
    assert "trainer.precision" in grid.options or said in (FULL, HALF, "64-true")


def test_threads_are_not_for_a_sweep_to_say(command: Command) -> None:
    status, _, err = command("sweep", write("e", SEEDS, **EASY | {"threads": 2}), "--dry-run")
    assert status == 2
    assert "set has threads, which it may not: the sweep shares the cores out itself (--workers)" in err


def test_the_config_of_a_run_can_be_a_base(command: Command) -> None:
    tiny = ["--data.modulus", "7", "--model.network", "MLP", "--model.network.width", "8", "--trainer.max_steps", "2"]
    assert command("fit", *tiny, "--experiment", "a", "--run", "b", "--trainer.enable_progress_bar", "false")[0] == 0
    content = {"base": "lightning_logs/a/b/config.yaml", "grid": SEEDS}
    Path("e.yaml").write_text(yaml.safe_dump(content))
    plan = read_plan("e.yaml")
    assert plan.precision is None
    assert "threads" not in plan.config(plan.runs[0], "r")
