"""What is pictured of a run is its own table, split, answers and embedding; TensorBoard gets what there is of it."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from scoring import score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from grok_lightning.callbacks import pictures as room
from grok_lightning.callbacks.events import Events
from grok_lightning.callbacks.pictures import (
    embedding_table,
    pictures,
    prediction_table,
    task_table,
)
from grok_lightning.callbacks.run_figures import RunFigures
from grok_lightning.callbacks.states import RunStates
from grok_lightning.data import (
    ModularArithmeticDataModule,
    PermutationDataModule,
    SignedRemaindersDataModule,
    TextDataModule,
)
from grok_lightning.data.batches import Chunk
from grok_lightning.figures.elements import NothingToShow
from grok_lightning.models import GRU, MLP, Transformer
from grok_lightning.module import GrokModule
from grok_lightning.training import evaluation

Command = Callable[..., tuple[int, str, str]]
CPU = torch.device("cpu")
LOOKS_AT_IMAGES = True
ALL = {"value_counts", "answers", "split", "predictions", "embedding"}
SHOWN = {"view/predictions", "view/embedding"}
TASK = ("value_counts", "answers", "split")
SMALL = partial(Transformer, width=16, heads=2, dropout=0.5)
DATA: dict[str, Callable[..., Any]] = {
    "quotients": partial(ModularArithmeticDataModule, "x / y", 11, train_fraction=0.4, val_fraction=0.3),
    "noise": partial(ModularArithmeticDataModule, "x + y", 11, answer_noise=0.4),
    "half": partial(ModularArithmeticDataModule, "x * y", 11, pairing="half", val_fraction=0.3),
    "characters": partial(ModularArithmeticDataModule, "x + y", 11, tokenizer="characters", answer_noise=0.4),
    "signed": partial(SignedRemaindersDataModule, "x - y", 7),
    "permutations": partial(PermutationDataModule, degree=3),
    "sample": partial(ModularArithmeticDataModule, "x + y", 11, rows=50),
    "three operands": partial(ModularArithmeticDataModule, "x + y + z", 5),
}
every_data = pytest.mark.parametrize("name", DATA)


def module_of(data: Any, network: Any = SMALL, **options: Any) -> GrokModule:
    return GrokModule(
        data.vocabulary_size, data.length, data.answer_length, data.seeds, data.padded, network=network, **options
    ).double()


@every_data
def test_the_table_and_its_split_are_the_runs_own(name: str) -> None:
    data = DATA[name](seeds=[3, 4])
    for run in range(2):
        table = task_table(data, run)
        assert [*table.columns[:-1]] == data.columns
        written = [data.describe(row) for row in range(len(data.operation))]
        assert table.iloc[:, :-1].astype(str).to_numpy().tolist() == written
        for split in ("train", "val", "test"):
            assert set(table.index[table["split"] == split]) == set(getattr(data.splits[run], split))
        assert (table["split"] == "unused").sum() == (len(table) // 2 - 5 if name == "half" else 0)


@every_data
def test_answers_are_those_of_predict(name: str) -> None:
    data = DATA[name]()
    module = module_of(data).eval()
    table = prediction_table(module, data)
    assert table["correct"].sum() == (table["prediction"].astype(object) == table["answer"].astype(object)).sum()
    for split in ("train", "val"):
        batch = data.chunk(Chunk(split, 0, data.counts(split)[0]), CPU)
        predicted, _ = module.predict_step(batch, 0)
        for row, tokens, target in zip(batch.rows_RB[0].tolist(), predicted[0], batch.targets_RBA[0], strict=True):
            given = data.decode(tokens[target >= 0].tolist())
            known = given in set(data.operation.algebra.names)
            assert table["prediction"][row] == given if known else pd.isna(table["prediction"][row])
            assert table["correct"][row] == (given == data.describe(row)[-1])


def test_accuracies_of_the_picture_are_those_of_the_evaluation() -> None:
    data = DATA["quotients"]()
    module = module_of(data)
    table = prediction_table(module, data)
    for split in ("train", "val", "test"):
        batch = data.chunk(Chunk(split, 0, data.counts(split)[0]), CPU)
        found = score(module.network(batch.tokens_RBT, 1), batch.targets_RBA)
        assert int(found.correct) == int(table["correct"][table["split"] == split].sum())


@pytest.mark.parametrize("network", [SMALL, partial(GRU, width=8), partial(MLP, width=8, hidden=[16])])
def test_a_run_of_a_stack_has_the_pictures_of_its_single_run(network: Any) -> None:
    formulas = ["x + y", "x / y", "x * y"]
    options = {"modulus": 7, "answer_noise": 0.3, "train_fraction": 0.4}
    data = ModularArithmeticDataModule(formulas, seeds=[5, 6, 7], **options)
    module = module_of(data, network)
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    for run, formula in enumerate(formulas):
        alone = ModularArithmeticDataModule(formula, seeds=[5 + run], **options)
        single = module_of(alone, network)
        one, two = prediction_table(module, data, run), prediction_table(single, alone)
        pd.testing.assert_frame_equal(one, two)
        assert len(one) == (42 if formula == "x / y" else 49)
        pd.testing.assert_frame_equal(embedding_table(module, data, run), embedding_table(single, alone))
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_batches_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DATA["quotients"]()
    module = module_of(data)
    whole = prediction_table(module, data)
    monkeypatch.setattr(evaluation, "ROWS_AT_ONCE", 7)
    pd.testing.assert_frame_equal(prediction_table(module, data), whole)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        *((name, set()) for name in ("quotients", "noise", "half", "signed", "permutations", "sample")),
        ("characters", {"embedding"}),
        ("three operands", {"answers", "split", "predictions"}),
    ],
)
def test_there_are_the_pictures_that_can_be(name: str, missing: set[str]) -> None:
    data = DATA[name]()
    found = pictures(module_of(data), data, 0, "run", 3000)
    assert set(found) == ALL - missing
    for picture, (table, figure) in found.items():
        assert len(table)
        title = figure.get_suptitle()
        assert title.endswith("run")
        assert ("step 3,000" in title) == (picture in ("predictions", "embedding"))


def test_what_does_not_exist_is_left_out() -> None:
    text = TextDataModule(["hello", "hi"])
    assert pictures(module_of(text), text, 0, "", 0) == {}
    with pytest.raises(NothingToShow, match="TextDataModule"):
        task_table(text)
    data = DATA["quotients"]()
    assert set(pictures(module_of(data, partial(MLP, inputs="one-hot")), data, 0, "", 0)) == ALL - {"embedding"}
    with pytest.raises(NothingToShow, match="several tokens"):
        embedding_table(module_of(DATA["characters"]()), DATA["characters"]())
    diverged = module_of(data)
    with torch.no_grad():
        diverged.network.embedding[0, 0, 0] = np.nan
    assert set(pictures(diverged, data, 0, "", 0)) == ALL - {"embedding", "predictions"}


def stand_in(**attributes: Any) -> Any:
    """For a Trainer, or what else a callback looks at."""
    return SimpleNamespace(**attributes)


def figures(directory: Path, data: Any, images: bool = True) -> RunFigures:
    return RunFigures(RunStates([directory], [{"train": 1, "val": 1}]), ["run"], data, images)


def shown(directory: str) -> dict[str, tuple[int, np.ndarray]]:
    """TensorBoard's images of a run by tag: their step and pixels."""
    events = EventAccumulator(directory).Reload()
    found = {}
    for tag in events.Tags()["images"]:
        (image,) = events.Images(tag)
        pixels = matplotlib.image.imread(io.BytesIO(image.encoded_image_string))
        assert pixels.shape == (image.height, image.width, 4)
        assert np.ptp(pixels) == 1
        found[tag] = image.step, pixels
    return found


def test_tensorboard_shows_the_curves_and_the_pictures_at_the_last_step(command: Command) -> None:
    assert command("fit", *TINY, "--experiment", "e", "--run", "a", "--trainer.max_steps", 20)[0] == 0
    found = shown("lightning_logs/e/a")
    assert set(found) == SHOWN | {"view/curves"}
    assert {step for step, _ in found.values()} == {20}
    curves = matplotlib.image.imread(Path("lightning_logs/e/a/curves.png"))
    assert np.array_equal(found["view/curves"][1], curves)


def test_pictures_are_shown_without_curves_at_their_step(tmp_path: Path) -> None:
    data, events = DATA["quotients"](), Events(tmp_path)
    trainer = stand_in(loggers=[events], global_step=7)
    figures(tmp_path, data).show_images(trainer, module_of(data))
    events.experiment.close()
    found = shown(str(tmp_path))  # it refuses a tag with two images
    assert set(found) == SHOWN
    assert {step for step, _ in found.values()} == {7}


@pytest.mark.slow
def test_the_pictures_of_a_task_are_the_experiments_and_shown_once(command: Command) -> None:
    runs = [("a",), ("b", "--seed_everything", 3), ("c", "--data.formula", "x * y")]
    found = []
    for run, *options in runs:
        assert command("fit", *TINY, "--experiment", "e", "--run", run, "--trainer.max_steps", 2, *options)[0] == 0
        found.append({path.name for path in Path("lightning_logs/e").glob("events*")})
        assert set(shown(f"lightning_logs/e/{run}")) == SHOWN | {"view/curves"}
    assert [len(each) for each in found] == [1, 1, 2]
    tasks = [f"view/task: {formula} mod 11/{name}" for formula in ("x + y", "x * y") for name in TASK]
    assert set(shown("lightning_logs/e")) == set(tasks)
    assert {step for step, _ in shown("lightning_logs/e").values()} == {0}
    assert command("fit", "--experiment", "e", "--run", "a", "--ckpt_path", "last", "--trainer.max_steps", 4)[0] == 0
    assert {path.name for path in Path("lightning_logs/e").glob("events*")} == found[2]


@pytest.mark.slow
def test_a_diverged_run_still_shows_its_task(command: Command) -> None:
    options = ("--model.optimizer.lr", 1e30, "--experiment", "e", "--run", "a", "--trainer.max_steps", 20)
    command("fit", *TINY, *options)
    assert set(shown("lightning_logs/e")) == {f"view/task: x + y mod 11/{name}" for name in TASK}
    assert "view/predictions" not in shown("lightning_logs/e/a")


@pytest.mark.parametrize("loggers", [[], [SimpleNamespace(log_images=None)], "ours, in a sweep"])
def test_without_tensorboard_or_in_a_sweep_nothing_is_drawn(
    loggers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "pictures", lambda *_: pytest.fail("drawn"))
    sweep = isinstance(loggers, str)
    trainer = stand_in(loggers=[Events(tmp_path)] if sweep else loggers)
    figures(tmp_path, stand_in(), images=not sweep).show_images(trainer, stand_in())
