"""What a stranger's checkpoint names is neither imported nor written to; classes of one's own go on working."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from foreign_checkpoints import TRAINED, listing, reseal_config

from grok_lightning import Experiment, load_run
from grok_lightning.errors import UserError

Command = Callable[..., tuple[int, str, str]]
HOWTO = Path(__file__).parents[2] / "docs" / "howto"
EVIL = """
from pathlib import Path
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.measures import Rank
from grok_lightning.models import Transformer
from grok_lightning.optim import AdamW, GrokfastEMA

Path({marker!r}).touch()

class Net(Transformer): pass
class Data(ModularArithmeticDataModule): pass
class Optimizer(AdamW): pass
class Filter(GrokfastEMA): pass
class Measure(Rank): pass
class Show(Callback): pass
class Logger(CSVLogger): pass
class Profiler(SimpleProfiler): pass
class Strategy(SingleDeviceStrategy): pass
class Accelerator(CPUAccelerator): pass
value = 0.001
"""
COMMANDS: dict[str, list[str]] = {  # FILE is the checkpoint; each begins where the run of TRAINED lies
    "fit": ["fit", "--ckpt_path", "FILE"],
    "init_from": ["fit", *TRAINED, "--init_from", "FILE", "--experiment", "other"],
    "validate": ["validate", "--ckpt_path", "FILE"],
    "test": ["test", "--ckpt_path", "FILE"],
    "predict": ["predict", "--ckpt_path", "FILE"],
    "generate": ["generate", "FILE", "1+2="],
    "export": ["export", "FILE", "--output", "network.pt"],
    "inspect": ["inspect", "FILE", "--output", "page.html", "--overwrite"],
    "report": ["report", "own", "--ckpt_path", "FILE", "--out", "report"],
    "sweep": ["sweep", "sweep.yaml"],
}
# a key of the config, and what stands there; EVIL is the planted module
CLASSES: dict[str, tuple[str, Any]] = {
    "network": ("model.network.class_path", "EVIL.Net"),
    "network alone": ("model.network", "EVIL.Net"),
    "network in init_args": ("model.network", {"class_path": "EVIL.Net", "init_args": {"width": 8}}),
    "data": ("data.class_path", "EVIL.Data"),
    "data alone": ("data", "EVIL.Data"),
    "optimizer": ("model.optimizer.class_path", "EVIL.Optimizer"),
    "filter": ("model.filters.0.class_path", "EVIL.Filter"),
    "last filter": ("model.filters.1", "EVIL.Filter"),
    "filters that are one": ("model.filters", "EVIL.Filter"),
    "measure": ("measures", [{"class_path": "EVIL.Measure"}]),
    "measure alone": ("measures", ["EVIL.Measure"]),
    "class in an option": ("model.network.activation", {"class_path": "EVIL.Net", "init_args": {}}),
    "class in a list": ("model.network.width", [[{"class_path": "EVIL.Net"}]]),
    "class in a schedule": ("model.schedule", {"class_path": "EVIL.value"}),
    "class in evaluation": ("evaluation.every", {"class_path": "EVIL.value"}),
    "class in a number": ("seed_everything", {"class_path": "EVIL.value"}),
    "text as a number": ("model.optimizer.lr", "EVIL.value"),
    "text in a list": ("model.weight_noise", ["EVIL.value"]),
    "accelerator": ("trainer.accelerator", "EVIL.Accelerator"),
    "accelerator as a class": ("trainer.accelerator", {"class_path": "EVIL.Accelerator"}),
}
IGNORED: dict[str, tuple[str, Any]] = {
    "callbacks": ("trainer.callbacks", [{"class_path": "EVIL.Show"}]),
    "callback alone": ("trainer.callbacks", "EVIL.Show"),
    "logger": ("trainer.logger", {"class_path": "EVIL.Logger", "init_args": {"save_dir": "../outside"}}),
    "logger alone": ("trainer.logger", "EVIL.Logger"),
    "our logger": (
        "trainer.logger",
        {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "../outside"}},
    ),
    "plugins": ("trainer.plugins", ["EVIL.Show"]),
    "strategy": ("trainer.strategy", "EVIL.Strategy"),
    "profiler": ("trainer.profiler", {"class_path": "EVIL.Profiler", "init_args": {"dirpath": "../outside"}}),
    "root": ("trainer.default_root_dir", "../outside"),
    "root and trust": ("trust", True),
    "overwrite": ("overwrite", True),
    "output": ("output", "../outside"),
}


class Place:
    """A directory of a user with a finished run of theirs, a stranger's checkpoint, and a planted module."""

    def __init__(self, directory: Path, module: str, command: Command) -> None:
        self.directory, self.module, self.command = directory, module, command
        self.marker = directory.parent / f"{module}.imported"
        self.own = directory / "checkpoints" / "own" / "0" / "step=4.ckpt"
        self.file = directory / "stranger.ckpt"

    def attack(self, key: str, value: Any) -> None:
        self.file.unlink(missing_ok=True)
        named = yaml.safe_load(yaml.safe_dump(value).replace("EVIL", self.module))
        reseal_config(self.own, self.file, {key: named})

    def run(self, name: str, *more: str) -> tuple[int, str, str]:
        if name == "sweep":
            options = f"set: {{trainer.max_steps: 4, init_from: {self.file}}}"
            sweep = f"base: addition\n{options}\ngrid: {{seed_everything: [1, 2]}}"
            (self.directory / "sweep.yaml").write_text(sweep)
        words = [str(self.file) if word == "FILE" else word for word in COMMANDS[name]]
        return self.command(*words, *more)

    def refused(self, name: str, *expected: str) -> str:
        """The one line with which a command refuses, having written nothing and imported nothing."""
        (self.directory / "sweep.yaml").touch()
        before = listing(self.directory.parent)
        status, printed, error = self.run(name)
        lines = [line for line in error.splitlines() if line]
        assert (status, len(lines)) == (2, 1), f"{printed}{error}"
        after = listing(self.directory.parent)
        assert after.keys() == before.keys()
        assert {path for path in after if after[path] != before[path]} <= {f"{self.directory.name}/sweep.yaml"}
        assert not self.marker.exists()
        assert all(part in error for part in expected), error
        assert len(error) < 700
        return error


@pytest.fixture
def place(
    trained_once: Callable[..., Path], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    directory = tmp_path / "work"
    shutil.copytree(trained_once(*TRAINED), directory)
    modules = tmp_path / "modules"
    modules.mkdir()
    module = f"evil_{abs(hash(str(tmp_path)))}"  # another each time: Python and the options remember modules
    found = Place(directory, module, command)
    (modules / f"{module}.py").write_text(EVIL.format(marker=str(found.marker)))
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(directory)
    return found


@pytest.mark.parametrize("kind", CLASSES)
def test_no_command_imports_what_a_strangers_checkpoint_names(place: Place, kind: str) -> None:
    place.attack(*CLASSES[kind])
    for name in COMMANDS:
        place.refused(name, "stranger.ckpt")
    with pytest.raises(UserError, match="not taken"):
        load_run(place.file)
    with pytest.raises(UserError, match="not taken"):
        Experiment(ckpt_path=str(place.file))
    assert not place.marker.exists()


@pytest.mark.parametrize("kind", ["network", "data", "optimizer", "filter", "measure"])
def test_with_trust_it_loads(place: Place, kind: str) -> None:
    place.attack(*CLASSES[kind])
    assert "--trust" in place.refused("validate")
    assert place.run("validate", "--trust")[0] == 0
    assert place.marker.exists()
    for name in ("generate", "export", "inspect", "test", "predict", "init_from", "report"):
        assert place.run(name, "--trust")[0] == 0, name
    elsewhere = str(place.directory / "elsewhere")  # where no other run of that name is
    assert place.run("fit", "--trust", "--trainer.max_steps", "8", "--trainer.default_root_dir", elsewhere)[0] == 0
    assert load_run(place.file, trust=True).step == 4


@pytest.mark.parametrize("kind", IGNORED)
def test_what_belongs_to_a_place_is_not_taken_from_elsewhere(place: Place, kind: str) -> None:
    place.attack(*IGNORED[kind])
    load_run(place.file)
    for name in ("fit", "validate", "generate"):
        status, _, error = place.run(name)
        assert status == 0, error
    assert not place.marker.exists()
    assert {path.name for path in place.directory.parent.iterdir()} == {"modules", "work"}


def test_what_belongs_to_a_place_is_read_from_its_record_there(place: Place) -> None:
    record = place.directory / "lightning_logs" / "own" / "0" / "config.yaml"
    config = yaml.safe_load(record.read_text())
    config["trainer"]["callbacks"] = {"class_path": f"{place.module}.Show"}
    record.write_text(yaml.safe_dump(config))
    reseal_config(place.own, place.own.parent / "last.ckpt", {"trainer.callbacks": "os.system"})
    assert load_run(place.own.parent / "last.ckpt").config["trainer"]["callbacks"] == config["trainer"]["callbacks"]
    assert not place.marker.exists()  # nobody needed it
    assert place.command("fit", "--experiment", "own", "--run", "0", "--ckpt_path", "last")[0] == 0
    assert place.marker.exists()


def test_a_class_in_its_own_place_must_stand_in_the_record_there(place: Place) -> None:
    place.attack(*CLASSES["network"])
    shutil.move(place.file, place.own)
    place.file = place.own
    place.refused("validate", "--trust", f"{place.module}.Net")
    record = place.directory / "lightning_logs" / "own" / "0" / "config.yaml"
    content = record.read_text().replace("grok_lightning.models.Transformer", f"{place.module}.Net")
    for broken in ("", "[", "a: &a [*a]", "[" * 100, "17"):
        record.write_text(broken)
        place.refused("validate", "--trust")
    record.write_text(content)
    assert place.run("validate")[0] == 0
    copied = place.directory / "checkpoints" / "own" / "1"
    shutil.copytree(place.own.parent, copied)
    place.file = copied / place.own.name  # under another name than its config's
    place.marker.unlink()
    place.refused("validate", "--trust")


@pytest.mark.parametrize(
    "name",
    [
        *("grok_lightning_evil.Net", "grok_lightning.fit.os", "grok_lightning.fit.os.system", "torch.optim.os.system"),
        *("torch.optim", "grok_lightning", "grok_lightning.models.stacked.torch.nn.Linear", "torch.optim.Adam.step"),
        *("grok_lightning.models.transformer.F", "grok_lightning.data.text.Path", "torch.optim.lr_scheduler.LambdaLR"),
        *("grok_lightning.optim.AdamW", "grok_lightning.__main__.main", "grok_lightning.models..Transformer", ".", ""),
        *("grok_lightning.models.\0", "\0", "a" * 10_000, f"grok_lightning.models.{'a' * 10_000}", "torch.optim.Ａdam"),
        *("os:system", "./evil.Net", "unittest.__main__.x", "antigravity.x", "grok_lightning.models.Transformer "),
        *(None, 17, 1.5, True, ["grok_lightning.models.Transformer"], {"class_path": "os.system"}),
    ],
)
@pytest.mark.parametrize("key", ["model.network.class_path", "model.network.activation"])
def test_only_classes_of_the_right_kind_are_taken(place: Place, key: str, name: Any) -> None:
    if key.endswith("activation"):
        name = {"class_path": name}
    place.attack(key, name)
    before = set(sys.modules)
    error = place.refused("generate", "stranger.ckpt")
    assert "\0" not in error
    assert not {"antigravity", "unittest.__main__"} & (set(sys.modules) - before)
    with pytest.raises(UserError):
        load_run(place.file)


@pytest.mark.parametrize("key", ["run", "experiment"])
@pytest.mark.parametrize(
    "name", ["../../../../outside", "..", ".", "", "/tmp/outside", "a/b", "a\\b", "a\0b", "a\n", "a" * 101, 0, ["a"]]
)
def test_names_that_lead_elsewhere_are_refused_in_a_checkpoint(place: Place, key: str, name: Any) -> None:
    place.attack(key, name)
    for command in ("fit", "validate", "predict", "generate"):
        place.refused(command, f"--{key} is", "stranger.ckpt")
    with pytest.raises(UserError, match=f"--{key} is"):
        load_run(place.file)


def test_a_checkpoint_without_the_name_of_a_run_is_refused(place: Place) -> None:
    place.attack("run", None)
    for command in ("fit", "validate", "generate"):
        place.refused(command, "run is null")


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "", ".", "a b"])
def test_a_name_from_the_environment_or_from_python_is_checked(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name:
        monkeypatch.setenv("GROK_LIGHTNING_RUN", name)
        before = listing(place.directory.parent)
        status, _, error = place.command("fit", *TRAINED)
        assert (status, error.count("\n")) == (2, 1)
        assert f"GROK_LIGHTNING_RUN is {name!r}" in error
        assert listing(place.directory.parent) == before
    for key in ("run", "experiment"):
        with pytest.raises(UserError, match=f"--{key} is"):
            Experiment(**{key: name})


MINE = [
    *("--model.network", "mine.Bag", "--model.network.width", "8", "--model.optimizer", "mine.SignSGD"),
    *("--model.filters", "mine.Scale", "--measures", "[mine.EmbeddingNorm]"),
    *("--trainer.callbacks", "mine.PrintAccuracy"),
]


def test_classes_of_ones_own_keep_working(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HOWTO))
    plain = [*TRAINED[:8], *TRAINED[16:]]
    assert command("fit", *plain, *MINE)[0] == 0
    here = Path("checkpoints/own/0/step=4.ckpt")
    status, printed, error = command("fit", "--ckpt_path", here)
    assert (status, "step 6:" in printed) == (0, True), error  # the callback came along
    for used in (["validate", "--ckpt_path", here], ["test", "--ckpt_path", here], ["predict", "--ckpt_path", here]):
        assert command(*used)[0] == 0
    assert command("generate", here, "1+2=")[0] == 0
    assert command("fit", *plain, *MINE, "--experiment", "next", "--init_from", here)[0] == 0
    assert load_run(here.parent).step == 6
    assert Experiment(ckpt_path=str(here)).config["trainer"]["callbacks"]

    Path("elsewhere").mkdir()
    there = shutil.copy(here, "elsewhere/mine.ckpt")
    for used in (["validate", "--ckpt_path", there], ["generate", there, "1+2="], ["fit", "--ckpt_path", there]):
        status, _, error = command(*used)
        assert (status, error.count("\n"), "mine.Bag" in error, "--trust" in error) == (2, 1, True, True)
        assert command(*used, "--trust")[0] == 0
    named = ["--model.network", "mine.Bag", "--model.optimizer", "mine.SignSGD", "--model.filters", "[mine.Scale]"]
    assert command("validate", "--ckpt_path", there, *named)[0] == 2  # one class is not named
    assert command("validate", "--ckpt_path", there, *named, "--measures", "[mine.EmbeddingNorm]")[0] == 0
    status, _, error = command("fit", *plain, "--experiment", "third", "--init_from", there, *MINE[:6])
    assert (status, "mine.Scale" in error or "mine.EmbeddingNorm" in error) == (2, True)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
def test_stacks_of_ones_own_classes_are_resumed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grok_lightning.sweep.plan.runs import read_plan
    from grok_lightning.sweep.plan.stack import Stack, build_fit

    monkeypatch.syspath_prepend(str(HOWTO))
    names = {"model.network": "mine.Bag", "model.optimizer": "mine.SignSGD", "model.filters": ["mine.Scale"]}
    sweep = {
        "base": "addition",
        "set": {"data.modulus": 7, "trainer.max_steps": 4, "trainer.precision": "32-true", **names},
        "grid": {"seed_everything": [1, 2]},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(sweep))
    plan = read_plan("own.yaml", Path())
    configs = [plan.config(run, f"{run.varied[0]}-{run.hash}") for run in plan.runs]
    stack = Stack(".", plan.name, configs, [run.hash for run in plan.runs], events=False)
    build_fit(stack).run()
    assert (stack.directory / "last.ckpt").exists()
    resumed = build_fit(stack)
    assert resumed.config.saved is not None
    assert resumed.config.saved.config["model"]["network"]["class_path"] == "mine.Bag"
