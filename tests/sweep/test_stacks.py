"""Run r of a stack equals its single run, and what would not is never stacked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import NETWORKS, as_the_program, directories, jobs, outcomes, results, write

from grok_lightning.records.record import read_metrics
from grok_lightning.sweep.plan.runs import read_plan
from grok_lightning.sweep.run.worker import run_job

Command = Callable[..., tuple[int, str, str]]
STEPS = ("status", "steps", "memorize_step", "memorize_after", "grok_step", "grok_after", "sustained_grok_step")
VARIED: dict[str, list[Any]] = {
    "seed_everything": [3, 1, 3],
    "data.split_seed": [5, 6, 7],
    "data.train_fraction": [0.5, 0.7, 0.4],
    "model.optimizer.lr": [0.001, 0.002, 0.0005],
    "model.optimizer.weight_decay": [1, 0, 10],
}
TRICKS: dict[str, Any] = {
    "data.answer_noise": 2, "model.weight_noise": 0.01, "model.weight_norm": 8.0, "model.loss": "stablemax",
    "model.optimizer": "Muon",
    "model.filters": [{"class_path": "GrokfastEMA"}, {"class_path": "GradientNoise"}, {"class_path": "Clip"}],
}  # fmt: skip
CONSTRAINED: dict[str, list[Any]] = {
    "model.weight_norm.at_most": [3.0, 6.0, 40.0],
    "model.constraints": [[{"class_path": "ClipRows", "max_norm": norm}] for norm in (0.3, 2.0, 0.8)],
    "seed_everything": [3, 1, 3],
}
NOISY = {"model.optimizer.update_noise": 0.1, "model.optimizer.decay": "jiggle"}
ONE_CYCLE = {"model.scheduler": {"class_path": "OneCycleLR", "max_lr": 0.01, "total_steps": 40}}
FORMULAS = {"data.formula": ["x + y", "x / y", "y if x % 2 else x"]}


@pytest.mark.parametrize(
    ("zipped", "more"),
    [
        (VARIED | FORMULAS, NETWORKS["Transformer"]),
        pytest.param(VARIED, NETWORKS["MLP"] | TRICKS, marks=pytest.mark.slow),
        (CONSTRAINED, NETWORKS["MLP"]),
        (
            {key: values for key, values in VARIED.items() if "optimizer" not in key},
            NETWORKS["MLP"]
            | {"model.scheduler": "LinearLR", "model.optimizer": "Adafactor", "model.optimizer.lr": 0.01},
        ),
        pytest.param(VARIED | FORMULAS, NETWORKS["MLP"], marks=pytest.mark.slow),
        pytest.param(VARIED, NETWORKS["LSTM"], marks=pytest.mark.slow),
        pytest.param(VARIED, NETWORKS["GRU"] | NOISY, marks=pytest.mark.slow),
    ],
    ids=["Transformer", "tricks", "constraints", "an optimizer each", "MLP", "LSTM", "GRU"],
)
def test_a_run_of_a_stack_equals_its_single_run(command: Command, zipped: dict[str, Any], more: dict[str, Any]) -> None:
    (stack,) = jobs(write("stacked", zipped=zipped, **more), 3)
    singles = jobs(write("single", zipped=zipped, **more), 1)[::2]
    with as_the_program():
        for job in (stack, *singles):
            run_job(job)
    assert {result["stack"] for result in results("stacked").values()} == {3}
    assert {result["stack"] for result in results("single").values()} == {1}
    assert len(directories("single")) == 2
    for directory in directories("single"):
        rows, wanted = read_metrics(Path("lightning_logs/stacked", directory.name)), read_metrics(directory)
        assert [row["step"] for row in rows] == [0, 10, 20, 30, 40]
        for row, single in zip(rows, wanted, strict=True):
            for split in ("train", "val"):
                assert row[f"{split}/loss"] == pytest.approx(single[f"{split}/loss"], rel=1e-5)
                assert row[f"{split}/acc"] == single[f"{split}/acc"]
        assert rows[0]["train/loss"] != rows[-1]["train/loss"]
    for hashed, result in outcomes("single").items():
        assert {key: result[key] for key in STEPS} == {key: outcomes("stacked")[hashed][key] for key in STEPS}


@pytest.mark.parametrize(
    ("grid", "more"),
    [
        ({option: values[:2] for option, values in VARIED.items()}, {}),
        pytest.param({"data.formula": ["x + y", "x * y * x"]}, {}, marks=pytest.mark.slow),
        pytest.param({"data.train_rows": [10, 20], "data.batch_size": [16]}, {}, marks=pytest.mark.slow),
        pytest.param({"model.weight_noise": [0, 0.1], "model.weight_norm": [1, 2.0]}, {}, marks=pytest.mark.slow),
        ({"model.filters": [[{"class_path": "Clip", "norm": 1.0}], [{"class_path": "Clip", "norm": 2.0}]]}, {}),
        ({"model.constraints": [[{"class_path": "ClipRows", "max_norm": norm}] for norm in (1, 1.5, 2)]}, {}),
        ({"model.weight_norm": [{"at_most": 30}, {"at_most": 40.5}]}, {}),
        ({"model.weight_norm.at_most": [30, 40.5]}, {}),
        pytest.param({"data.split_seed": [0, 1]}, {"data.batch_size": "full"}, marks=pytest.mark.slow),
        ({"model.optimizer.head_lr": [0.1, 0.2], "model.optimizer.vector_weight_decay": [0, 1.0]}, {}),
        ({"seed_everything": [0, 1], "data.train_fraction": [0.4, 0.6]}, {"model.optimizer": "torch.optim.Adafactor"}),
        ({"seed_everything": [0, 1]}, {"init_from": "other.ckpt", "init_parts": "embeddings"}),
        ({"model.optimizer.weight_decay": [0, 1], "data.train_fraction": [0.4, 0.6]}, ONE_CYCLE),
        pytest.param(
            {"model.optimizer": [{"class_path": "AdamW", "lr": 1}, {"class_path": "AdamW", "weight_decay": 2}]},
            {},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"seed_everything": [0, 1]},
            {"model.optimizer": "torch.optim.SGD", "measures": ["Collapse"]},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: "+".join(value) if value and "seed_everything" not in value else None,
)
def test_what_may_differ_within_a_stack(command: Command, grid: dict[str, Any], more: dict[str, Any]) -> None:
    plan = read_plan(write("e", grid, **{"model.optimizer.lr": None} | more))
    assert len({run.shape for run in plan.runs}) == 1
    assert len(plan.runs) > 1


@pytest.mark.parametrize(
    ("option", "values", "more"),
    [
        pytest.param("data.modulus", [7, 11], {}, marks=pytest.mark.slow),
        pytest.param("model.network.width", [8, 16], {"model.network": "MLP"}, marks=pytest.mark.slow),
        ("model.optimizer", ["AdamW", "Muon"], {}),
        pytest.param("model.filters", [[], ["Clip"]], {}, marks=pytest.mark.slow),
        ("model.weight_norm", ["free", 1.0], {}),
        ("model.weight_norm", [1.0, {"at_most": 1.0}], {}),
        ("model.constraints", [[], ["ClipRows"]], {}),
        ("model.optimizer.lr", [0.1, 0.2], {"model.optimizer": "torch.optim.SGD"}),
        ("data.train_fraction", [0.4, 0.6], {"data.batch_size": "full"}),
        ("data.formula", ["x + y", "x + y + z"], {}),
        pytest.param("data.formula", ["x + y", "x - y"], {"measures": ["Collapse"]}, marks=pytest.mark.slow),
        pytest.param("data.formula", ["x + y", "x - y"], {"data.tokenizer": "characters"}, marks=pytest.mark.slow),
        ("seed_everything", [0, 1], {"model.optimizer": "torch.optim.LBFGS"}),
        ("model.optimizer.lr", [0.1, 0.2], {"model.optimizer": "torch.optim.Adafactor"}),
        ("model.optimizer.lr", [0.1, 0.2], ONE_CYCLE),
        ("model.scheduler.max_lr", [0.1, 0.2], {"model.scheduler": {"class_path": "OneCycleLR", "total_steps": 40}}),
        ("seed_everything", [0, 1], {"trainer.callbacks": [{"class_path": "lightning.pytorch.callbacks.Timer"}]}),
    ],
)
def test_what_may_not(command: Command, option: str, values: list[Any], more: dict[str, Any]) -> None:
    path = write("e", {option: values}, **{"model.optimizer.lr": None} | more)
    plan = read_plan(path)
    assert len({run.shape for run in plan.runs}) == len(plan.runs) == 2


ALIKE: list[dict[str, list[Any]]] = [
    {
        "data.batch_size": [16, 20],
        "data.pairing": ["free", "together"],
        "data.answer_noise": [0, 2],
        "model.network.dropout": [0.0, 0.1],
        "model.optimizer.decay": ["zero", "l2"],
        "model.loss": ["mse", "stablemax"],
    },
    {
        "model.warmup": [0, 10],
        "evaluation.every": [5, 10],
        "evaluation.stop_after": [0, 2],
        "trainer.max_steps": [40, 50],
        "trainer.precision": ["32-true", "bf16-mixed"],
    },
]


@pytest.mark.parametrize(
    "grid", [ALIKE[0], pytest.param(ALIKE[1], marks=pytest.mark.slow)], ids=["data and model", "training"]
)
def test_options_that_take_one_value_for_all_part_stacks(command: Command, grid: dict[str, list[Any]]) -> None:
    """Each of them: there are as many shapes as combinations."""
    plan = read_plan(write("e", grid))
    assert len({run.shape for run in plan.runs}) == len(plan.runs) == 2 ** len(grid)


@pytest.mark.parametrize("order", [1, -1])
def test_each_batch_size_has_its_own_rule(command: Command, order: int) -> None:
    """A full batch follows from the fraction, a number does not, whichever comes first."""
    plan = read_plan(write("e", {"data.batch_size": [16, "full"][::order], "data.train_fraction": [0.4, 0.6]}))
    stacks: dict[Any, set[int]] = {}
    for run in plan.runs:
        stacks.setdefault(run.varied[0], set()).add(run.shape)
    assert {size: len(shapes) for size, shapes in stacks.items()} == {16: 1, "full": 2}
