"""Checkpoints with a right checksum, in which something has another type, range or shape, or is missing."""

import io
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_checkpoints import REMOVE, TRAINED, listing, reseal, reseal_config

from grok_lightning import load_run
from grok_lightning.cli import GrokCLI
from grok_lightning.errors import UserError
from grok_lightning.generate import answer
from grok_lightning.options.config import SavedRun
from grok_lightning.options.parsing import resolve
from grok_lightning.records import checkpoint
from grok_lightning.records.checkpoint import load, save
from grok_lightning.records.checkpoint_form import check_state
from grok_lightning.starting import set_initial_weights

Command = Callable[..., tuple[int, str, str]]
WEIGHT = "state_dict.network/head/weight"
MOMENT = "optimizer_states.0.state.3"
GROUP = "optimizer_states.0.param_groups.0"
LOOP = "loops.fit_loop.epoch_loop/batch_progress"
UPDATES = "loops.fit_loop.epoch_loop/manual_optimization/optim_step_progress"
STATES: dict[str, list[Any]] = {  # values that no fit saves, by key
    "state_dict": [None, 17, {}, [], "x", REMOVE],
    WEIGHT: [
        *(None, 17, [1.0], REMOVE, torch.zeros(1, 8, 10).long(), torch.zeros(1, 8, 8), torch.zeros(())),
        *(lambda weight: weight.to(torch.complex64), lambda weight: weight.to(torch.float8_e4m3fn)),
        *(lambda weight: weight.to_sparse(), lambda weight: weight[:, :0]),
        lambda weight: torch.zeros(1).expand(10**6, 10**6),
    ],
    "state_dict.network/surplus": [torch.zeros(3)],
    "state_dict.17": [torch.zeros(3)],
    "global_step": [-1, 3, 5, 2.5, "4", True, None, 10**400, 2**60, REMOVE, torch.tensor(4)],
    "epoch": [-1, "x", None, REMOVE],
    "pytorch-lightning_version": [None, 17, "", "x", "1.9.0", "0.0.1", "2." + "9" * 5000, REMOVE],
    "loops": [None, [], {}, 17, {"fit_loop": 17}, REMOVE],
    "loops.fit_loop": [{}, [], REMOVE],
    "loops.validate_loop": [17, REMOVE],
    LOOP: [17, {}],
    f"{LOOP}.total": [17, {}, REMOVE],
    f"{LOOP}.total.ready": [-1, "x", None, 1.5, 99, 10**400, REMOVE],
    f"{LOOP}.total.reset": [17, {}],
    f"{LOOP}.current.completed": ["x", 99],
    f"{LOOP}.is_last_batch": ["x", 1, None, REMOVE],
    f"{LOOP}.increment_ready": [17, {}],
    f"{UPDATES}.total.completed": [0, 3, "x", REMOVE],
    "loops.fit_loop.epoch_progress.current": [17, {}],
    "callbacks": [None, [], 17, {"Recorder": 17}],
    "callbacks.Recorder": [{}, []],
    "callbacks.Recorder.seconds": ["x", None, nan, -1.0, inf, 10**400, [], REMOVE],
    "optimizer_states": [None, 17, [], [17], {}, [{}], [{}, {}]],
    "optimizer_states.0.state": [None, 17, [], {"x": 1}, {0: 17}, REMOVE],
    MOMENT: [17, [], {}],
    f"{MOMENT}.step": [17, "x", None, REMOVE, torch.zeros(3)],
    f"{MOMENT}.mean": [17, "x", REMOVE, torch.zeros(3), torch.zeros(()), lambda moment: moment.long()],
    "optimizer_states.0.param_groups": [None, 17, [], [17], [{}], [{}, {}], REMOVE],
    f"{GROUP}.params": [None, [], [0], ["x"], list(range(99)), REMOVE],
    f"{GROUP}.lr": ["x", None, nan, [], REMOVE],
    f"{GROUP}.param_names": [17, [17], []],
    "lr_schedulers": [None, 17, [], [17], [{}], {}, REMOVE],
    "lr_schedulers.0.base_lrs": [None, [], ["x"], [nan], [1e9], REMOVE],
    "lr_schedulers.0.last_epoch": ["x", -2, None, REMOVE],
    "lr_schedulers.0.lr_lambdas": [17, [], ["x"], [{"x": 17}], REMOVE],
    "lr_schedulers.0.optimizer": [17],
    "lr_schedulers.0.step": [17],
    "kept_norms": [None, 17, "x", ["x"], [nan], [-1.0], [1.0], [1.0, 2.0]],
    "diverged_at": [None, 17, [], ["x"], [1.5], [-2], [10**400], [-1, -1]],
    "gradient_filters": [None, 17, [], [{}], [17, 17], [{}, {}, {}], REMOVE],
    "gradient_filters.0": [{"head.weight": 17}, {"head.weight": torch.zeros(3)}, {17: 17}],
    "gradient_filters.1": [{}, {"windows": 17, "sums": {}, "counts": {}}],
    "gradient_filters.1.windows.head/weight": [17, None, torch.zeros(1, 1, 8, 10), REMOVE],
    "gradient_filters.1.counts.head/weight": ["x", -1, 1.5, None],
}
CONFIGS: dict[str, list[Any]] = {
    "seed_everything": ["x", 1.5, None, [], True, 10**400, REMOVE],
    "data": [None, 17, [], "x", REMOVE],
    "data.class_path": ["TextDataModule", "AdamW", None],
    "data.formula": [17, None, "(" * 1000, "__import__('os').system('x')", "", ["x + y"], "x + z" * 10_000],
    "data.modulus": ["x", -1, 0, 1.5, None, 10**12, 10**299, 10**400, nan, [7], 11],
    "data.train_fraction": ["x", 2.0, -1.0, nan, inf, [], 10**299],
    "data.batch_size": ["x", 0, -1, None, nan, []],
    "data.tokenizer": ["x", 17, None],
    "data.surplus": [17],
    "model": [None, 17, [], "x", {}, REMOVE],
    "model.network": [17, [], [None]],
    "model.network.width": ["x", 0, -8, 9, 10**7, 10**299, 1.5, None, nan, []],
    "model.network.layers": ["x", -1, 3, 10**6, None],
    "model.network.heads": [0, 3, "x"],
    "model.network.surplus": [17],
    "model.optimizer.lr": ["x", nan, -1.0, None, [1e-3, 1e-3], {"x": 1}],
    "model.optimizer.betas": ["x", [0.9], [0.9, "x"], [2.0, 2.0]],
    "model.filters": [17, [17], [{}], [None], {"x": 17}],
    "model.filters.0.alpha": ["x", 2.0, nan],
    "model.warmup": [-1, "x", None],
    "model.schedule": ["x", None, 17],
    "model.loss": ["x", None, []],
    "model.mask_first_n": [-1, 99, "x"],
    "model.weight_noise": ["x", -1.0, nan, [0.1, 0.1]],
    "model.weight_norm": ["x", -1.0, []],
    "model.vocabulary": [17],
    "trainer": [None, 17, [], "x", REMOVE],
    "trainer.precision": ["x", 17, None, []],
    "trainer.max_steps": ["x", 0, -1, 1.5, None, 10**400],
    "trainer.limit_val_batches": ["x", []],
    "trainer.surplus": [17],
    "evaluation": [17, [], "x"],
    "evaluation.threshold": ["x", 2.0, 0.0, nan, None],
    "evaluation.every": ["x", -1, []],
    "evaluation.stop_after": ["x", -1],
    "evaluation.surplus": [17],
    "checkpoint": [17, []],
    "checkpoint.every": ["x", 0],
    "checkpoint.steps": ["x", ["x"], [0]],
    "measures": [17, [17], "x", [{}], [{"class_path": "AdamW"}], {"x": 17}],
    "experiment": [17, [], "", None],
    "surplus": [17, {"x": 17}],
    "stack": [["x"]],
}
COMMANDS: dict[str, list[str]] = {
    "fit": ["fit", "--ckpt_path", "FILE"],
    "init_from": ["fit", *TRAINED, "--init_from", "FILE", "--experiment", "other"],
    "validate": ["validate", "--ckpt_path", "FILE"],
    "test": ["test", "--ckpt_path", "FILE"],
    "generate": ["generate", "FILE", "1+2="],
}


@pytest.fixture
def work(trained_once: Callable[..., Path], command: Command, tmp_path: Path) -> Path:
    """The working directory, with a run of TRAINED."""
    shutil.copytree(trained_once(*TRAINED), tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def built(trained_once: Callable[..., Path]) -> GrokCLI:
    """What a resumed fit builds, made once."""
    own = trained_once(*TRAINED) / "checkpoints" / "own" / "0" / "step=4.ckpt"
    return GrokCLI(resolve(["fit", "--ckpt_path", str(own)]))


def check(work: Path, file: Path, command: Command, names: list[str]) -> list[str]:
    """Runs commands with a file: each refuses it in one line, having written nothing, or does what it should.

    Returns:
        Those that did.
    """
    done = []
    for name in names:
        before = listing(work)
        status, _, error = command(*(str(file) if word == "FILE" else word for word in COMMANDS[name]))
        if status == 0:
            done.append(name)
            continue
        assert (status, error.count("\n")) == (2, 1), error
        assert file.name in error or name in ("fit", "validate"), error  # there it is an option's value that is wrong
        assert len(error) < 700
        assert listing(work) == before
    with suppress(UserError):
        load_run(file)
    return done


def restore(file: Path, built: GrokCLI) -> None:
    """What a resumed fit calls before it writes anything."""
    set_initial_weights(built.model, built.datamodule, replace(built.resolved, saved=SavedRun.read(file)))
    check_state(load(file), built.model, built.trainer, training=True)


@pytest.mark.parametrize("key", STATES)
def test_a_state_of_another_form_is_refused(work: Path, command: Command, built: GrokCLI, key: str) -> None:
    own, file = work / "checkpoints" / "own" / "0" / "step=4.ckpt", work / "changed.ckpt"
    reseal(own, file, {key: STATES[key][0]})
    assert check(work, file, command, ["fit", "validate"]) in ([], ["validate"])
    for value in STATES[key][1:]:  # by what the command calls
        reseal(own, file, {key: value})
        with pytest.raises((UserError, ValueError)) as refusal:
            restore(file, built)
        assert isinstance(refusal.value, UserError) or str(refusal.value).startswith("its "), value
        assert len(str(refusal.value).splitlines()) == 1


def test_an_unchanged_state_is_accepted(work: Path, command: Command, built: GrokCLI) -> None:
    file = reseal(work / "checkpoints" / "own" / "0" / "step=4.ckpt", work / "changed.ckpt", {})
    check_state(load(file), built.model, built.trainer, training=True)
    assert check(work, file, command, ["fit", "validate", "test"]) == ["fit", "validate", "test"]


@pytest.mark.parametrize("key", CONFIGS)
def test_a_config_of_another_form_is_refused(work: Path, command: Command, key: str) -> None:
    own, file = work / "checkpoints" / "own" / "0" / "step=4.ckpt", work / "changed.ckpt"
    reseal_config(own, file, {key: CONFIGS[key][0]})
    check(work, file, command, ["fit", "generate"])
    for value in CONFIGS[key][1:]:
        reseal_config(own, file, {key: value})
        with suppress(UserError):
            run = load_run(file)
            assert answer(run, "1+2=")
        if not key.startswith(("data", "model")):  # which load_run has built
            with suppress(UserError):
                GrokCLI(resolve(["fit", "--ckpt_path", str(file)]))


def seal(path: Path, content: bytes) -> Path:
    """Gives a zip archive our comment and a right checksum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", lambda _, buffer: buffer.write(content))
        save({}, path)
    return path


def archive(pickled: bytes, compression: int = zipfile.ZIP_STORED, more: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in {"archive/data.pkl": pickled, "archive/version": b"3", **(more or {})}.items():
            file.writestr(name, content)
    return buffer.getvalue()


def call(name: str, *arguments: Any) -> bytes:
    """A pickle that calls a function."""
    module, _, function = name.rpartition(".")
    inner = b"".join(pickle.dumps(argument, 2)[2:-1] for argument in arguments)
    return b"\x80\x02c" + f"{module}\n{function}\n".encode() + b"(" + inner + b"tR."


NESTED = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
HIDDEN = {"archive/DATA.PKL": NESTED}
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "deflated": (archive(pickle.dumps([0.0] * 10**6, 2), zipfile.ZIP_DEFLATED), "compressed"),
    "lzma": (archive(pickle.dumps(1, 2), zipfile.ZIP_LZMA), "compressed"),
    "zeros that are deflated": (archive(b"\x80\x02K\x01.", zipfile.ZIP_DEFLATED, {"archive/0": bytes(10**8)}), "compr"),
    "huge pickle": (archive(pickle.dumps("x" * (17 * 2**20), 2)), "at most"),
    "many parts": (archive(b"\x80\x02]" + b"(" + b"K\x01" * 2_100_000 + b"e."), "parts"),
    "bytes of another size": (archive(call("builtins.bytearray", 10**12)), "bytearray"),
    "tensor of another size": (archive(call("torch.Tensor", 10**6, 10**6)), "torch Tensor"),
    "storage of another size": (archive(call("torch.FloatStorage", 10**12)), "plain data"),
    "program": (archive(call("os.system", "true")), "os system"),
    "program by another name": (archive(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."), "STACK_GLOBAL"),
    "nested": (archive(NESTED), "no config"),
    "two pickles": (archive(pickle.dumps(1, 2), more=HIDDEN), "one checkpoint"),
    "cut pickle": (archive(b"\x80\x02]"), "STOP"),
    "no pickle": (archive(b"\xff"), "opcode"),
    "no archive": (b"PK\5\6" + bytes(18), "one checkpoint"),
    "text": (b"step,val/acc\n0,0.01\n" * 99, "no archive"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_larger_than_its_file_or_with_a_program_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    content, reason = ARCHIVES[kind]
    path = seal(tmp_path / "sealed.ckpt", content)
    if kind not in ("nested", "storage of another size"):
        monkeypatch.setattr(checkpoint, "_unpickle", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UserError, match=r"sealed\.ckpt") as refusal:
        load(path)
    assert reason in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("where", ["", "config"])
@pytest.mark.parametrize("kind", ["deep", "itself", "laughs"])
def test_plain_data_that_never_ends_is_refused(work: Path, command: Command, kind: str, where: str) -> None:
    value: Any = []
    for _ in range(100):
        value = [value] * 2 if kind == "laughs" else [value]
    if kind == "itself":
        value.append(value)
    own, file = work / "checkpoints" / "own" / "0" / "step=4.ckpt", work / "changed.ckpt"
    (reseal_config if where else reseal)(own, file, {"surplus": value})
    assert check(work, file, command, ["fit", "validate", "generate"]) == []
