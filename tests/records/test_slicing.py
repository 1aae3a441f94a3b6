"""Runs taken out of a stack's checkpoint go on as they would have gone on in the stack."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.errors import UserError
from grok_lightning.models import GRU, LSTM, MLP, ResidualMLP, Transformer
from grok_lightning.module import GrokModule
from grok_lightning.optim import AdamW, Clip, GradientNoise, GrokfastEMA, GrokfastMean, Muon, OrthogonalGradient
from grok_lightning.records.checkpoint import CONFIG_KEY, DurableCheckpointIO, load, save, slice_runs

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")

SEEDS, RUNS, SAVED, STEPS = [7, 0, 2], 3, 5, 11
# no biases of keys: their gradient is nothing but rounding, which Adam and Rprop blow up
TRANSFORMER = functools.partial(Transformer, layers=1, width=8, heads=2, dropout=0.1, bias="feedforward")
RATES = {"lr": [1e-2, 3e-3, 1e-3], "weight_decay": [0.1, 1.0, 0.5]}
NOISY = {"weight_noise": [0.01, 0.0, 0.03], "weight_norm": "initial"}
DATA = {"formula": ["x + y", "x / y", "x - y"], "train_fraction": [0.3, 0.6, 0.5]}
BASE: dict[str, Any] = {"network": TRANSFORMER, "optimizer": functools.partial(AdamW, **RATES), **NOISY}

CASES: dict[str, dict[str, Any]] = {
    "Transformer": {},
    "tied Transformer": {"network": functools.partial(Transformer, layers=1, width=8, heads=2, bias=False, tied=True)},
    "MLP": {"network": functools.partial(MLP, width=8, hidden=[16, 12], dropout=0.1)},
    "factored residual MLP": {"network": functools.partial(ResidualMLP, width=8, layers=2, embedding_rank=3)},
    "LSTM": {"network": functools.partial(LSTM, width=8, hidden=12, dropout=0.1)},
    "GRU": {"network": functools.partial(GRU, width=8, hidden=12, dropout=0.1)},
    "norms of their own": {"weight_norm": [3.0, 4.0, 5.0]},
    **{
        f"AdamW, decay {decay}": {
            "optimizer": functools.partial(AdamW, **RATES, decay=decay, update_noise=[0.1, 0.3, 0.0])
        }
        for decay in ("zero", "initial", "jiggle", "l2")
    },
    "AdamW of one rate": {"optimizer": functools.partial(AdamW, lr=1e-2)},
    "Muon": {"optimizer": functools.partial(Muon, lr=[0.02, 0.1, 0.05], momentum=[0.9, 0.5, 0.0])},
    **{
        name: {"optimizer": functools.partial(kind, **options)}
        for name, kind, options in [
            ("SGD", torch.optim.SGD, {"lr": 0.1}),
            ("momentum", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
            ("Nesterov", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
            ("Adam", torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
            ("torch's AdamW", torch.optim.AdamW, {"lr": 0.01}),
            ("RMSprop", torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "centered": True}),
            ("NAdam", torch.optim.NAdam, {"lr": 0.01}),
            ("RAdam", torch.optim.RAdam, {"lr": 0.01}),
            ("Adagrad", torch.optim.Adagrad, {"lr": 0.01}),
            ("Adadelta", torch.optim.Adadelta, {"lr": 0.5}),
            ("Adamax", torch.optim.Adamax, {"lr": 0.01}),
            ("ASGD", torch.optim.ASGD, {"lr": 0.1}),
            ("Rprop", torch.optim.Rprop, {"lr": 0.01}),
        ]
    },
    "GrokfastEMA": {"filters": [(GrokfastEMA, {"alpha": [0.9, 0.98, 0.5], "strength": [1.0, 2.0, 3.0]})]},
    "GrokfastMean": {"filters": [(GrokfastMean, {"window": 4, "strength": [1.0, 5.0, 2.0]})]},
    "GrokfastMean not yet full": {"filters": [(GrokfastMean, {"window": 8, "strength": [1.0, 5.0, 2.0]})]},
    "as many slots as runs": {"filters": [(GrokfastMean, {"window": RUNS})]},
    "every filter": {
        "filters": [
            (GradientNoise, {"std": [0.0, 0.1, 0.2], "decay": [0.0, 0.3, 0.5]}),
            (GrokfastMean, {"window": 3}),
            (GrokfastEMA, {}),
            (OrthogonalGradient, {}),
            (Clip, {"norm": [0.1, 1.0, 10.0]}),
        ]
    },
}
# torch keeps numbers of theirs as float32 until they are read from a checkpoint, then in the type of the weights
ROUNDED = [CASES[name]["optimizer"] for name in ("NAdam", "ASGD")]
# of each kind of state one; the rest takes a minute
FAST = {"LSTM", "AdamW, decay initial", "Muon", "NAdam", "every filter"}
every_case = pytest.mark.parametrize(
    "case",
    [case if name in FAST else pytest.param(case, marks=pytest.mark.slow) for name, case in CASES.items()],
    ids=CASES,
)


def config(runs: Sequence[int]) -> dict[str, Any]:
    return {"data": {}, "model": {}, "trainer": {}, "seed_everything": list(runs)}


def own(options: dict[str, Any], runs: Sequence[int]) -> dict[str, Any]:
    """The chosen runs' share of options that hold a list for the stack of three."""
    of_runs = {"lr", "weight_decay", "momentum", "update_noise", "weight_noise", "weight_norm"}
    of_runs |= {"alpha", "strength", "std", "decay", "norm", *DATA}
    return {
        name: [value[run] for run in runs] if name in of_runs and isinstance(value, list) else value
        for name, value in options.items()
    }


class Saves(Callback):
    """Saves the stack at a step, and slices of it, each named by its runs."""

    def __init__(self, directory: Path, runs: Sequence[int], slices: Sequence[Sequence[int]], at: int) -> None:
        self.directory, self.runs, self.slices, self.at = directory, runs, slices, at

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[CONFIG_KEY] = config(self.runs)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.at:
            trainer.save_checkpoint(self.directory / "stack.ckpt")
            for chosen in self.slices:
                part = {"chosen": chosen, "runs": len(self.runs), "config": config(chosen)}
                trainer.save_checkpoint(self.directory / f"{chosen}.ckpt", storage_options=part)


def trained(
    case: dict[str, Any],
    directory: Path,
    runs: Sequence[int] = range(RUNS),
    steps: int = STEPS,
    ckpt_path: Path | None = None,
    slices: Sequence[Sequence[int]] = (),
    at: int = SAVED,
) -> dict[str, Any]:
    """What the checkpoint holds after training some runs of a stack of three up to a step."""
    options = BASE | case
    seeds = [SEEDS[run] for run in runs]
    data = ModularArithmeticDataModule(modulus=7, batch_size=16, seeds=seeds, **own(DATA, runs))
    optimizer = options["optimizer"]
    options |= {
        "optimizer": functools.partial(optimizer.func, **own(optimizer.keywords, runs)),
        "filters": [kind(**own(chosen, runs)) for kind, chosen in options.get("filters", [])],
    }
    module = GrokModule(data.vocabulary_size, data.length, data.answer_length, seeds, warmup=3, **own(options, runs))
    module.double()
    trainer = Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        precision="64-true",
        callbacks=[Saves(directory, runs, slices, at)],
        plugins=[DurableCheckpointIO()],
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path)
    assert trainer.global_step == steps
    trainer.save_checkpoint(directory / "end.ckpt")
    return load(directory / "end.ckpt")


def leaves(part: Any, name: str = "") -> dict[str, Any]:
    """Everything within nested mappings and lists, by where it is."""
    items: Any = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else None
    if items is None:
        return {name: part}
    return {place: leaf for key, inner in items for place, leaf in leaves(inner, f"{name}/{key}").items()}


def assert_same(one: dict[str, Any], other: dict[str, Any], **tolerance: float) -> None:
    found, expected = leaves(one), leaves(other)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        if isinstance(leaf, Tensor | float):
            torch.testing.assert_close(found[name], leaf, **{"rtol": 0, "atol": 0} | tolerance)
        else:
            assert found[name] == leaf, name


@every_case
def test_runs_taken_out_go_on_as_in_the_stack(case: dict[str, Any], tmp_path: Path) -> None:
    slices = [[1], [0, 2]]
    stack = trained(case, tmp_path, slices=slices)
    if case.get("optimizer") in ROUNDED:
        stack = trained(case, tmp_path, ckpt_path=tmp_path / "stack.ckpt", at=-1)
    before = load(tmp_path / "stack.ckpt")
    for chosen in slices:
        alone = trained(case, tmp_path, chosen, ckpt_path=tmp_path / f"{chosen}.ckpt", at=-1)
        assert_same(alone, slice_runs(stack, chosen, RUNS, config(chosen)), rtol=1e-9, atol=1e-12)
    for name, weight in stack["state_dict"].items():
        assert any((weight != before["state_dict"][name]).flatten(1).any(1)), name


@every_case
def test_a_run_taken_out_is_its_single_run(case: dict[str, Any], tmp_path: Path) -> None:
    trained(case, tmp_path / "stack", steps=SAVED, slices=[[1]])
    trained(case, tmp_path / "single", [1], steps=SAVED)
    files = [tmp_path / "stack" / "[1].ckpt", tmp_path / "single" / "stack.ckpt", tmp_path / "stack" / "stack.ckpt"]
    sliced, single, stack = map(load, files)
    assert_same(sliced, single, rtol=1e-9, atol=1e-12)
    assert_same(sliced, slice_runs(stack, [1], RUNS, config([1])))
    assert files[0].stat().st_size <= files[1].stat().st_size
    for name, leaf in leaves(slice_runs(stack, [2, 0], RUNS, {})).items():
        if isinstance(leaf, Tensor):
            assert leaf.untyped_storage().nbytes() == leaf.numel() * leaf.element_size(), name


@pytest.fixture
def stack(tmp_path: Path) -> dict[str, Any]:
    return trained(CASES["every filter"], tmp_path, steps=SAVED)


def test_slicing_leaves_the_stack_as_it_is(stack: dict[str, Any], tmp_path: Path) -> None:
    sliced = slice_runs(stack, [1], RUNS, config([1]))
    for leaf in leaves([sliced["state_dict"], sliced["optimizer_states"], sliced["gradient_filters"]]).values():
        if isinstance(leaf, Tensor):
            leaf.fill_(-1)
    assert_same(stack, load(tmp_path / "end.ckpt"))
    assert (sliced[CONFIG_KEY], stack[CONFIG_KEY]) == (config([1]), config(range(RUNS)))


def test_slices_of_a_slice_are_slices(stack: dict[str, Any]) -> None:
    twice = slice_runs(slice_runs(stack, [2, 0], RUNS, {}), [1], 2, config([0]))
    assert_same(twice, slice_runs(stack, [0], RUNS, config([0])))


def test_all_runs_in_their_order_are_the_stack(stack: dict[str, Any]) -> None:
    assert_same(slice_runs(stack, range(RUNS), RUNS, stack[CONFIG_KEY]), stack)


def test_what_each_run_has_in_a_list_is_taken_out_too(stack: dict[str, Any]) -> None:
    sliced = slice_runs(stack | {"diverged_at": [-1, 17, 4]}, [2, 1], RUNS, {})
    assert sliced["diverged_at"] == [4, 17]
    assert sliced["kept_norms"] == [stack["kept_norms"][2], stack["kept_norms"][1]]
    assert slice_runs(stack | {"kept_norms": []}, [2, 1], RUNS, {})["kept_norms"] == []


def test_nothing_is_sliced_unless_asked(stack: dict[str, Any], tmp_path: Path) -> None:
    DurableCheckpointIO().save_checkpoint(stack, tmp_path / "whole.ckpt")
    assert_same(load(tmp_path / "whole.ckpt"), stack)


@pytest.mark.parametrize("chosen", [[], [3], [-1], [0, 7]], ids=str)
def test_runs_that_are_not_there_cannot_be_chosen(stack: dict[str, Any], chosen: list[int]) -> None:
    with pytest.raises(ValueError, match="of a stack of 3 runs"):
        slice_runs(stack, chosen, RUNS, {})


def test_what_mixes_runs_is_refused_but_in_a_stack_of_one(tmp_path: Path) -> None:
    state = {"state": {0: {"old_dirs": [torch.zeros(44)]}}}
    content = {"state_dict": {}, "optimizer_states": [state], CONFIG_KEY: {}}
    with pytest.raises(UserError, match=r"^optimizer_states\.0\.state\.0\.old_dirs\.0 has the shape \(44,\)"):
        slice_runs(content, [1], RUNS, {})
    assert_same(slice_runs(content, [0], 1, {}), content)
    save(content, tmp_path / "one.ckpt")
