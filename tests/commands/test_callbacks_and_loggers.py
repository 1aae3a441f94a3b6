"""Callbacks and loggers that users name: monitored, recorded, resumed, or refused before anything is written."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_here import train_here

from grok_lightning import Experiment
from grok_lightning.errors import UserError
from grok_lightning.options.brought import place
from grok_lightning.options.parsing import recorded_run, resolve
from grok_lightning.records.checkpoint import load

Command = Callable[..., tuple[int, str, str]]
RUN = ["--experiment", "e", "--run", "a"]
SHORT = ["--evaluation.per_decade", "0", "--threads", "1", "--trainer.precision", "32-true"]
OWN = """
import json
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

class Lines(Logger):
    '''Writes a line for each call.'''
    def __init__(self, file: str = "lines.jsonl", version: str | None = None):
        super().__init__()
        self.file = file
    name, version = "lines", None
    def log_hyperparams(self, params, *args, **kwargs):
        self.write({"options": dict(params)})
    def log_metrics(self, metrics, step=None):
        self.write({"step": step, "metrics": dict(metrics)})
    def write(self, content):
        with open(self.file, "a") as file:
            file.write(json.dumps(content) + "\\n")

class Table(CSVLogger):
    def __init__(self, save_dir):
        super().__init__(save_dir)

class Events(TensorBoardLogger):
    def __init__(self, save_dir, version=None):
        super().__init__(save_dir, version=version)

class Tracker(WandbLogger):
    def __init__(self, project="x"):
        super().__init__(project=project)

class Experiments(MLFlowLogger):
    def __init__(self, tags=None):
        super().__init__(tags=tags)

class Half(Callback):
    '''Logs half the loss.'''
    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("own/half", pl_module.evaluation["val/loss"].mean() / 2, logger=False)

class Quiet(Callback):
    '''Logs nothing.'''

class Broken(Callback):
    def __init__(self):
        raise KeyError("a bug")
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Classes in the working directory."""
    (tmp_path / "own_watching.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("own_watching", None)


def fit(command: Command, *options: object, run: str = "a", steps: int = 40) -> tuple[int, str, str]:
    names = ["--experiment", "e", "--run", run]
    return command("fit", *TINY, *SHORT, *names, "--trainer.max_steps", steps, *options)


def resume(command: Command, *options: object, steps: int = 40) -> tuple[int, str, str]:
    return command("fit", *RUN, "--ckpt_path", "last", "--trainer.max_steps", steps, *options)


def rows(path: str) -> list[dict[str, float]]:
    with Path(path).open(newline="") as file:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(file)]


def same_checkpoint(one: str, other: str) -> bool:
    first, second = (load(Path("checkpoints/e") / name / "last.ckpt") for name in (one, other))
    keys = [key for key in ("state_dict", "current_model_state", "optimizer_states") if key in first]
    return all(repr(_listed(first[key])) == repr(_listed(second[key])) for key in keys)


def _listed(value: object) -> object:
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return list(map(_listed, value))
    return value.tolist() if isinstance(value, torch.Tensor) else value


REFUSED = [
    (["StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=0.1"], "use EMAWeightAveraging"),
    (["GradientAccumulationScheduler", "--trainer.callbacks.scheduling={0: 2}"], "use data.batch_size"),
    (["BatchSizeFinder"], "use data.batch_size"),
    (["LearningRateFinder"], "vary model.optimizer.lr in a sweep"),
    (["BackboneFinetuning"], "called backbone"),
    (["ModelPruning", "--trainer.callbacks.pruning_fn=l1_unstructured"], "its masks are not in checkpoints"),
    (["EarlyStopping"], "monitor has no default in EarlyStopping and is not given; expected: text"),
    (["EarlyStopping", "--trainer.callbacks.monitor=val/los"], "which nothing records; did you mean val/loss?"),
    (["ModelCheckpoint", "--trainer.callbacks.monitor=norm/weight"], "did you mean norm/weights?"),
    (["EarlyStopping", "--trainer.callbacks.monitor=rank/hidden"], "which nothing records"),
    (["EarlyStopping", "--trainer.callbacks.monitor=val/loss", "--trainer.callbacks.mode=up"], "mode"),
    (
        ["EarlyStopping", "--trainer.callbacks.patienc=1"],
        "patienc is no option of EarlyStopping; did you mean",
    ),
    (["Timer", "--trainer.callbacks.verbose=soon"], "Timer.verbose is 'soon'; expected: true or false"),
    (["EarlyStoping"], "names the class 'EarlyStoping', which does not exist; did you mean EarlyStopping?"),
    (["LearningRateMonitor", "--trainer.logger=false"], "LearningRateMonitor needs a logger"),
    (
        ["LearningRateMonitor", "--trainer.callbacks.log_weight_decay=true"],
        "log_weight_decay is True, but the groups of the optimizer AdamW hold no weight_decay",
    ),
    (["own_watching.Quite"], "the module own_watching (own_watching.py) has no Quite; did you mean Quiet?"),
    (["own_watching.Lines"], "names 'own_watching.Lines', which does not extend Callback"),
]


@pytest.mark.parametrize(("named", "words"), REFUSED)
def test_what_cannot_work_is_refused_by_name(command: Command, named: list[str], words: str) -> None:
    before = sorted(Path().rglob("*"))
    status, _, err = fit(command, f"--trainer.callbacks+={named[0]}", *named[1:])
    assert (status, words in err, len(err.splitlines())) == (2, True, 1), err
    assert [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts] == before


def test_a_bug_in_a_constructor_shows_its_traceback(command: Command) -> None:
    with pytest.raises(KeyError, match="a bug"):
        fit(command, "--trainer.callbacks", "own_watching.Broken")


def test_a_measure_is_monitored_and_a_misspelt_one_refused(command: Command) -> None:
    stopping = "--trainer.callbacks+=EarlyStopping", "--measures", "[Fourier]", "--trainer.callbacks.monitor"
    status, _, err = fit(command, *stopping, "fourier/embeding_gini")
    assert (status, "did you mean fourier/embedding_gini?" in err) == (2, True)
    options = ["--trainer.callbacks.mode=max", "--trainer.callbacks.patience=1", "--trainer.callbacks.min_delta=9"]
    assert fit(command, *stopping, "fourier/embedding_gini", *options)[0] == 0
    assert json.loads(Path("lightning_logs/e/a/result.json").read_text())["status"] == "stopped"


def test_what_an_own_callback_logs_can_be_monitored_beside_it(command: Command) -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=own/half"]
    assert fit(command, "--trainer.callbacks+=own_watching.Half", *stopping)[0] == 0
    status, _, err = fit(command, "--trainer.callbacks+=own_watching.Quiet", *stopping, run="b")
    assert (status, "which nothing records" in err) == (2, True)


def test_an_early_stopped_run_has_a_record_and_goes_on_as_if_it_had_not_stopped(command: Command) -> None:
    stopping = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss"]
    stopping += ["--trainer.callbacks.mode=max", "--trainer.callbacks.patience=1", "--trainer.callbacks.min_delta=9"]
    assert fit(command, *stopping)[0] == 0
    result = json.loads(Path("lightning_logs/e/a/result.json").read_text())
    assert (result["status"], result["steps"], result["budget"]) == ("stopped", 20, 40)
    state = load(Path("checkpoints/e/a/last.ckpt"))["callbacks"]
    assert next(value for key, value in state.items() if key.startswith("EarlyStopping"))["wait_count"] == 1
    assert resume(command, "--trainer.callbacks", "null")[0] == 0
    assert fit(command, run="b")[0] == 0
    assert rows("lightning_logs/e/a/metrics.csv") == rows("lightning_logs/e/b/metrics.csv")
    assert same_checkpoint("a", "b")


def test_best_checkpoints_lie_beside_the_others_and_can_be_used(command: Command) -> None:
    keeping = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val/loss"]
    assert fit(command, *keeping, "--trainer.callbacks.save_top_k=2", steps=20)[0] == 0
    assert resume(command)[0] == 0
    found = sorted(Path("checkpoints/e/a").glob("epoch*.ckpt"))
    losses = {int(row["step"]): row["val/loss"] for row in rows("lightning_logs/e/a/metrics.csv")[1:]}
    best = sorted(losses, key=losses.__getitem__)[:2]
    assert sorted(load(path)["global_step"] for path in found) == sorted(best)
    step = load(found[0])["global_step"]
    assert command("validate", "--ckpt_path", found[0])[0] == 0
    assert json.loads(Path("lightning_logs/e/a/validate.json").read_text())["val/loss"] == losses[step]
    if step < 40:
        assert command("fit", "--ckpt_path", found[0], "--trainer.max_steps", 40)[0] == 0
        assert rows("lightning_logs/e/a/metrics.csv")[-1]["val/loss"] == losses[40]


def test_averaged_weights_are_evaluated_measured_and_resumed_to_the_bit(command: Command) -> None:
    averaging = ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9", "--measures=[Rank]"]
    assert fit(command, *averaging, steps=20)[0] == 0
    assert resume(command)[0] == 0
    assert fit(command, *averaging, run="b")[0] == 0
    assert fit(command, "--measures=[Rank]", run="c")[0] == 0
    averaged, plain = (rows(f"lightning_logs/e/{run}/metrics.csv") for run in ("b", "c"))
    assert rows("lightning_logs/e/a/metrics.csv") == averaged
    assert averaged[0] == plain[0]
    assert averaged[-1]["val/loss"] != plain[-1]["val/loss"]
    assert averaged[-1]["rank/hidden"] != plain[-1]["rank/hidden"]
    assert same_checkpoint("a", "b")
    assert command("validate", "--ckpt_path", "checkpoints/e/b/last.ckpt")[0] == 0
    assert json.loads(Path("lightning_logs/e/b/validate.json").read_text())["val/loss"] == averaged[-1]["val/loss"]
    trained, both = (load(Path(f"checkpoints/e/{run}/last.ckpt")) for run in ("c", "b"))
    assert all(torch.equal(weight, both["current_model_state"][name]) for name, weight in trained["state_dict"].items())


@pytest.mark.parametrize("before", [True, False])
def test_averaging_is_neither_begun_nor_left_out_on_the_way(command: Command, before: bool) -> None:
    averaging = ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
    assert fit(command, *(averaging if before else []), steps=10)[0] == 0
    saved = Path("checkpoints/e/a/last.ckpt").read_bytes()
    changes = [["--trainer.callbacks=null"], ["--trainer.callbacks=EMAWeightAveraging"]] if before else [averaging]
    for change in changes:
        status, _, err = resume(command, *change)
        assert (status, "weights" in err, len(err.splitlines())) == (2, True, 1), err
    assert Path("checkpoints/e/a/last.ckpt").read_bytes() == saved
    assert resume(command, "--trainer.callbacks+=ModelSummary")[0] == 0


def test_a_sweep_compares_runs_with_and_without_averaging(command: Command) -> None:
    ways = [None, ["EMAWeightAveraging"], [{"class_path": "EMAWeightAveraging", "decay": 0.9}]]
    Path("s.yaml").write_text(yaml.safe_dump({"set": {"data.modulus": 7}, "grid": {"trainer.callbacks": ways}}))
    status, out, err = command("sweep", "s.yaml", "--dry_run")
    assert (status, "3 runs" in out) == (0, True), out + err
    Path("s.yaml").write_text(yaml.safe_dump({"grid": {"trainer.callbacks": [None, ["ModelSummary"]]}}))
    status, _, err = command("sweep", "s.yaml", "--dry_run")
    assert (status, "is the same run as" in err) == (2, True)


def test_a_plan_leaves_no_store_of_mlflow(command: Command) -> None:
    pytest.importorskip("mlflow")
    content = {"set": {"data.modulus": 7, "trainer.logger": "MLFlowLogger"}, "grid": {"seed_everything": [0, 1]}}
    Path("s.yaml").write_text(yaml.safe_dump(content))
    assert command("sweep", "s.yaml", "--dry_run")[0] == 0
    assert not [path for path in Path().iterdir() if path.name not in ("s.yaml", "own_watching.py")]


def test_a_default_that_yaml_cannot_write_is_written_by_name(command: Command) -> None:
    timing = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration", "00:01:00:00"]
    assert fit(command, *timing, steps=10)[0] == 0
    (written,) = yaml.safe_load(Path("lightning_logs/e/a/config.yaml").read_text())["trainer"]["callbacks"]
    assert (written["interval"], written["duration"]) == ("step", "00:01:00:00")
    assert resume(command, steps=20)[0] == 0


@pytest.mark.slow
def test_a_timer_that_runs_out_ends_the_run_with_a_record(command: Command) -> None:
    timing = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration", "00:00:00:00"]
    assert fit(command, *timing)[0] == 0
    assert json.loads(Path("lightning_logs/e/a/result.json").read_text())["status"] == "stopped"
    assert resume(command, "--trainer.callbacks=null")[0] == 0
    assert fit(command, run="b")[0] == 0
    assert rows("lightning_logs/e/a/metrics.csv") == rows("lightning_logs/e/b/metrics.csv")


@pytest.mark.parametrize(
    "given", ["python", *(pytest.param(each, marks=pytest.mark.slow) for each in ("yaml", "line"))]
)
def test_a_logger_gets_all_options_once_and_the_metrics_of_the_record(command: Command, given: str) -> None:
    if given == "line":
        assert fit(command, "--trainer.logger", "own_watching.Lines")[0] == 0
    elif given == "yaml":
        Path("a.yaml").write_text("trainer:\n  logger: own_watching.Lines\n")
        assert fit(command, "--config", "a.yaml")[0] == 0
    else:
        names = [name.removeprefix("--") for name in (*TINY, *SHORT, *RUN)[::2]]
        options = dict(zip(names, (*TINY, *SHORT, *RUN)[1::2], strict=True)) | {"trainer.max_steps": 40}
        Experiment(logger="own_watching.Lines", **options).fit()
    first, *others = map(json.loads, Path("lines.jsonl").read_text().splitlines())
    result = json.loads(Path("lightning_logs/e/a/result.json").read_text())
    assert first["options"]["model.optimizer.lr"] == result["config"]["model"]["optimizer"]["lr"]
    assert first["options"]["model.optimizer.betas"] == "[0.9, 0.98]"
    assert first["options"]["trainer.max_steps"] == 40
    assert not any("options" in line for line in others)
    expected = rows("lightning_logs/e/a/metrics.csv")
    assert [line["step"] for line in others] == [row["step"] for row in expected] == [0, 10, 20, 30, 40]
    assert all(line["metrics"] | {"step": line["step"]} == row for line, row in zip(others, expected, strict=True))


@pytest.mark.parametrize("place", [[], pytest.param(["--trainer.logger.save_dir", "theirs"], marks=pytest.mark.slow)])
def test_the_rows_of_a_csv_logger_go_on(command: Command, place: list[str]) -> None:
    logging = ["--trainer.logger", "CSVLogger", *place, "--trainer.callbacks+=LearningRateMonitor"]
    logging += ["--trainer.log_every_n_steps", "7"]
    assert fit(command, *logging, steps=20)[0] == 0
    (path,) = (*Path("theirs").rglob("metrics.csv"), *Path("lightning_logs/e/a/CSVLogger").rglob("metrics.csv"))
    with path.open("a") as file:  # of a process that was killed later than its checkpoint was saved
        file.write(path.read_text().splitlines()[-1] + "\n")
    options = path.with_name("hparams.yaml").read_text()
    assert resume(command)[0] == 0
    assert path.with_name("hparams.yaml").read_text().replace("max_steps: 40", "max_steps: 20") == options
    found = rows(str(path))
    own = [row for row in found if "val/loss" in row]
    assert own == rows("lightning_logs/e/a/metrics.csv")
    assert [row["step"] for row in found if "val/loss" not in row] == [6, 13, 20, 27, 34]


@pytest.mark.parametrize("name", ["Table", "Events"])
def test_a_logger_that_takes_fewer_options_than_lightnings_writes_into_the_run(command: Command, name: str) -> None:
    assert fit(command, "--trainer.logger", f"own_watching.{name}", steps=20)[0] == 0
    assert list(Path("lightning_logs/e/a/lightning_logs").glob("version_0/*"))
    assert resume(command)[0] == 0


def test_names_are_given_only_to_loggers_that_take_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    kinds = [f"own_watching.{name}" for name in ("Tracker", "Experiments")]
    config = resolve(["fit", *TINY, *SHORT, *RUN], {"trainer.logger": kinds})
    placed = place(config.options, recorded_run(config), None, sweep=True)
    assert placed["trainer"]["logger"] == config.options["trainer"]["logger"]


def test_a_run_that_stood_at_an_evaluation_logs_and_keeps_what_the_undisturbed_one_does(command: Command) -> None:
    watching = ["--trainer.logger", "CSVLogger", "--trainer.callbacks+=LearningRateMonitor"]
    watching += ["--trainer.log_every_n_steps", "7", "--checkpoint.steps", "[20]"]
    watching += ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val/loss"]
    assert fit(command, *watching)[0] == 0
    path, saved = Path("lightning_logs/e/a/CSVLogger/metrics.csv"), Path("checkpoints/e/a/step=20.ckpt")
    whole, last = path.read_text(), load(Path("checkpoints/e/a/last.ckpt"))["loops"]["fit_loop"]
    kept = next(state for key, state in load(saved)["callbacks"].items() if key.startswith("ModelCheckpoint"))
    assert kept["current_score"] == next(row["val/loss"] for row in rows(str(path)) if row["step"] == 20)
    assert command("fit", "--ckpt_path", saved)[0] == 0
    assert path.read_text() == whole
    assert load(Path("checkpoints/e/a/last.ckpt"))["loops"]["fit_loop"] == last


@pytest.mark.slow
def test_tensorboard_has_the_options_from_the_start_and_once(command: Command) -> None:
    assert fit(command, "--trainer.logger", "TensorBoardLogger", steps=20)[0] == 0
    assert resume(command)[0] == 0
    tags = {"lightning_logs/e/a": "learning/loss/val", "lightning_logs/e/a/TensorBoardLogger": "val/loss"}
    for folder, tag in tags.items():
        events = b"".join(path.read_bytes() for path in Path(folder).glob("events*"))
        assert events.count(b"_hparams_/session_start_info") == 1
        assert b"model.optimizer.weight_decay" in events
        shown = EventAccumulator(folder)
        shown.Reload()
        assert [event.step for event in shown.Scalars(tag)] == [0, 10, 20, 30, 40]


def test_a_version_in_a_checkpoint_leads_nowhere_else() -> None:
    from grok_lightning.callbacks.loggers import LoggerStates

    odd = {"a": "../../x", "b": "..", "c": -1, "d": True, "e": ["x"], "f": "x/y", "g": "0k.-1", "h": 3, "i": "a" * 200}
    assert LoggerStates({"versions": odd, "rows": {"a": "1", "b": 2}}).versions == {"g": "0k.-1", "h": 3}
    for state in (None, 3, {}, {"versions": 3, "rows": []}, {"versions": [1]}):
        assert LoggerStates(state).versions == {}


def test_an_object_in_place_of_a_class_is_refused_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.callbacks import Timer

    monkeypatch.chdir(tmp_path)
    assert Experiment(callbacks=[Timer]).config["trainer"]["callbacks"][0]["class_path"].endswith(".Timer")
    with pytest.raises(UserError, match="a class name or a mapping of options is expected"):
        Experiment(callbacks=[Timer()])


def test_a_progress_bar_replaces_ours(command: Command) -> None:
    bar = ["--trainer.callbacks+=TQDMProgressBar", "--trainer.max_steps", 4]
    status, out, _ = command("fit", *TINY[:-2], *SHORT, *RUN, *bar)
    assert (status, "memorizing" in out) == (0, False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DeviceStatsMonitor", "ModelSummary", "OnExceptionCheckpoint"])
def test_others_work(command: Command, name: str) -> None:
    assert fit(command, "--trainer.callbacks", name, steps=10)[0] == 0
    assert resume(command, steps=20)[0] == 0


@pytest.mark.slow
def test_runs_of_a_sweep_with_callbacks_and_loggers_are_trained_one_by_one(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(monkeypatch)
    callbacks = [{"class_path": "EarlyStopping", "monitor": "val/loss", "mode": "max", "patience": 1, "min_delta": 9}]
    tiny = dict(zip([name[2:] for name in (*TINY, *SHORT[:2])[::2]], (*TINY, *SHORT[:2])[1::2], strict=True))
    sweep = {"trainer.max_steps": 40, "trainer.callbacks": callbacks, "trainer.logger": "CSVLogger"}
    content = {"set": tiny | sweep, "grid": {"seed_everything": [0, 1]}}
    Path("s.yaml").write_text(yaml.safe_dump(content))
    status, out, _ = command("sweep", "s.yaml", "--dry_run")
    assert (status, "2 of 1 run" in out) == (0, True)
    assert "one by one, for trainer.callbacks and trainer.logger watch single runs" in out
    assert command("sweep", "s.yaml", "--workers", 1)[0] == 0
    for run in Path("lightning_logs/s").glob("seed=*"):
        assert json.loads((run / "result.json").read_text())["status"] == "stopped"
        assert rows(str(run / "CSVLogger/metrics.csv")) == rows(str(run / "metrics.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["WandbLogger", "MLFlowLogger"])
def test_a_tracker_goes_on_in_the_same_run(command: Command, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}[name])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert fit(command, "--trainer.logger", name, steps=20)[0] == 0
    assert resume(command)[0] == 0
    ids = {path.name.rpartition("-")[2] for path in Path("wandb").glob("offline-run-*")}
    ids |= {path.name for path in Path("mlruns").glob("[1-9]*/*") if path.is_dir()}
    assert len(ids) == 1
    if name == "MLFlowLogger":
        (losses,) = Path("mlruns").glob("[1-9]*/*/metrics/val/loss")
        assert [int(line.split()[2]) for line in losses.read_text().splitlines()] == [0, 10, 20, 30, 40]
        (option,) = Path("mlruns").glob("[1-9]*/*/params/model.optimizer.lr")
        assert option.read_text() == "0.001"
