"""What TensorBoard shows of runs: in which order, which options, and that nothing is there twice or missing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.summary.writer import event_file_writer

from grok_lightning.callbacks.events import RESULT, Events, tag_of
from grok_lightning.options.config import RecordedRun
from grok_lightning.options.shown import COMPARED, shown_options
from grok_lightning.reading import read_yaml
from grok_lightning.records.planned import save_planned
from grok_lightning.records.record import read_metrics, read_result

Command = Callable[..., tuple[int, str, str]]
RUN = ("--experiment", "e", "--run", "a")
LOGS = Path("lightning_logs/e/a")
FINAL = {"train/loss": 0.1, "test/acc": 0.5, "test/loss": 2.5}


@pytest.fixture(autouse=True)
def files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one second are read by the number with which their names end, of which 10 comes before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def events_in(directory: Path) -> EventAccumulator:
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    return found.Reload()


def points(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events_in(directory).Scalars(tag)]


def options_in(directory: Path) -> dict[str, Any]:
    content = events_in(directory).SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in found.items()}


def assert_as_recorded(directory: Path) -> None:
    """Every column of metrics.csv is a tag that has its values at its steps, each once."""
    rows = read_metrics(directory)
    columns = [key for key in rows[0] if key != "step"]
    own = [tag for tag in events_in(directory).Tags()["scalars"] if not tag.startswith(RESULT)]
    assert set(own) >= {tag_of(key) for key in columns}
    for key in columns:
        wanted = {int(row["step"]): row[key] for row in rows if row[key] == row[key]}
        steps, values = zip(*[point for point in points(directory, tag_of(key)) if point[1] == point[1]], strict=True)
        assert steps == tuple(wanted)
        assert values == pytest.approx(tuple(wanted.values()), rel=1e-6)


def time_series_key(tag: str) -> list[tuple[bool, str]]:
    """How the tabs but HPARAMS compare tags without numbers: slashes and underscores come first."""
    return [(character not in "/_", character) for character in tag]


def test_the_order_is_accuracy_loss_measures_norms_and_in_the_hparams_tab_steps_come_first(tmp_path: Path) -> None:
    events = Events(tmp_path)
    keys = ["train/loss", "train/acc", "val/loss", "val/acc", "norm/weights", "norm/gradient", "fourier/gini", "a/b"]
    events.log_evaluation({"step": 3} | dict.fromkeys(keys, 1.0))
    events.log_end({"memorize_step": 2, "grok_step": 3, "steps": 3, "final": FINAL})
    events.experiment.close()
    tags = events_in(tmp_path).Tags()["scalars"]
    assert sorted(tags)[:4] == [
        f"{RESULT}/{name}" for name in ("grok step", "memorize step", "test accuracy", "test loss")
    ]
    series = sorted(tags, key=time_series_key)
    assert series[:4] == [f"learning/{key}/{split}" for key in ("accuracy", "loss") for split in ("train", "val")]
    assert [tag.split("/")[0] for tag in series[4:]] == [*[RESULT] * 4, *["measures"] * 2, *["norm"] * 2]


def test_what_a_run_did_not_reach_is_left_out(tmp_path: Path) -> None:
    events = Events(tmp_path)
    events.log_end({"memorize_step": 2, "grok_step": None, "steps": 9, "final": {"train/loss": 0.1}})
    events.experiment.close()
    assert events_in(tmp_path).Tags()["scalars"] == [f"{RESULT}/memorize step"]
    assert points(tmp_path, f"{RESULT}/memorize step") == [(10, 2.0)]


def test_a_run_has_its_evaluations_charts_and_the_options_that_are_not_at_their_defaults(command: Command) -> None:
    given = ("--trainer.max_steps", 20, "--model.optimizer.weight_decay", 0.3, "--model.filters", "[GrokfastEMA]")
    assert command("fit", *TINY, *RUN, *given)[0] == 0
    assert_as_recorded(LOGS)
    shown = options_in(LOGS)
    assert shown["data.modulus"] == 11
    assert shown["model.optimizer.weight_decay"] == 0.3
    assert shown["model.network"] == "Transformer"
    assert shown["model.filters"].startswith("[GrokfastEMA ")
    assert shown["data.train_fraction"] == 0.5, "always compared"
    compared = {key.removesuffix(".class_path") for key in COMPARED}
    others = {"model.filters", "model.network.heads", "evaluation.every", "evaluation.per_decade"}
    assert set(shown) <= compared | others
    assert others <= set(shown)
    assert metadata.EXPERIMENT_TAG not in events_in(LOGS).Tags()["tensors"], "it would choose the columns of all runs"
    layout = layout_pb2.Layout.FromString(
        events_in(LOGS).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    )
    assert [chart.multiline.tag[0] for chart in layout.category[0].chart] == ["^learning/accuracy/", "^learning/loss/"]


def test_a_run_that_goes_back_to_a_checkpoint_has_every_point_once(command: Command) -> None:
    assert command("fit", *TINY, *RUN, "--trainer.max_steps", 40, "--checkpoint.steps", "[20]")[0] == 0
    os.replace("checkpoints/e/a/step=20.ckpt", "checkpoints/e/a/last.ckpt")  # as after kill -9 beyond it
    (LOGS / "result.json").unlink()
    assert command("fit", *RUN, "--ckpt_path", "last")[0] == 0
    assert_as_recorded(LOGS)
    for tag in events_in(LOGS).Tags()["scalars"]:
        steps = [step for step, _ in points(LOGS, tag)]
        assert len(steps) == len(set(steps))


def test_a_run_that_is_trained_longer_has_one_result(command: Command) -> None:
    easy = ("--evaluation.threshold", 0.02)
    assert command("fit", *TINY, *RUN, *easy, "--trainer.max_steps", 20)[0] == 0
    first = points(LOGS, f"{RESULT}/memorize step")
    assert [step for step, _ in first] == [21]
    assert command("fit", *RUN, "--ckpt_path", "last", "--trainer.max_steps", 40)[0] == 0
    assert points(LOGS, f"{RESULT}/memorize step") == [(41, first[0][1])]
    (LOGS / "result.json").unlink()  # killed between the last step and the record
    assert command("fit", *RUN, "--ckpt_path", "last")[0] == 0
    assert points(LOGS, f"{RESULT}/memorize step") == [(41, first[0][1])]
    assert_as_recorded(LOGS)


@pytest.mark.parametrize("old", [True, False])
def test_evaluations_from_before_are_there_after_a_resume(command: Command, old: bool) -> None:
    assert command("fit", *TINY, *RUN, "--trainer.max_steps", 20)[0] == 0
    for path in LOGS.glob("events*"):
        path.unlink()
    if old:  # as earlier versions wrote them
        events = Events(LOGS)
        for row in read_metrics(LOGS):
            events.log_metrics({key: value for key, value in row.items() if key != "step"}, int(row["step"]))
        events.log_metrics({"lr-AdamW": 0.1}, 20)
        events.experiment.close()
    assert command("fit", *RUN, "--ckpt_path", "last", "--trainer.max_steps", 40)[0] == 0
    assert_as_recorded(LOGS)
    if old:
        assert points(LOGS, "lr-AdamW") == [(20, pytest.approx(0.1))]
        assert len(points(LOGS, "train/acc")) == len([row for row in read_metrics(LOGS) if row["step"] <= 20])


def test_a_checkpoint_is_never_ahead_of_the_events(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[set[int]] = []

    def look(path: Path, *_: Any, **__: Any) -> None:
        saved.append({step for step, _ in points(LOGS, "learning/accuracy/train")})

    from grok_lightning.records import checkpoint

    write = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda content, path: (look(path), write(content, path))[1])
    assert command("fit", *TINY, *RUN, "--trainer.max_steps", 20, "--checkpoint.every", 10)[0] == 0
    assert saved
    assert any(10 in steps for steps in saved)


def test_what_a_sweep_varies_is_shown_of_all_its_runs_also_at_the_default(command: Command) -> None:
    assert command("fit", *TINY, *RUN, "--trainer.max_steps", 2)[0] == 0
    config = read_yaml(LOGS / "config.yaml")
    run = RecordedRun(config, "h", LOGS, Path("checkpoints/e/a"))
    assert not {"model.network.dropout", "model.init_from"} & set(shown_options(run))
    save_planned(LOGS.parent, ["h", "i"], [], {"model.network.dropout": [0.0, 0.1], "model.init_from": [None, "x"]})
    shown = shown_options(run)
    assert shown["model.network.dropout"] == config["model"]["network"]["dropout"]
    assert shown.get("model.init_from", "-") == "-"
    assert read_result(LOGS / "result.json")["status"] == "finished"
