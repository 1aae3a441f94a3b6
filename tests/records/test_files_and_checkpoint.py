"""A checkpoint is whole or refused, whatever happens while it is written and afterwards."""

import errno
import io
import os
import pickle
import random
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from grok_lightning.errors import UserError
from grok_lightning.files import TEMPORARY, sweep, write_durably
from grok_lightning.records import checkpoint
from grok_lightning.records.checkpoint import CONFIG_KEY, load, save

CONTENT = {
    CONFIG_KEY: {"data": {"formula": "x + y"}, "model": {}, "trainer": {}, "seed_everything": 3},
    "state_dict": {"weight": torch.arange(24.0).reshape(1, 4, 6), "keys": torch.tensor([2**40])},
    "global_step": 17,
}

# forks a process that does nothing but save, and kills it after the delay it reads from its standard input
SAVER = """
import os, signal, sys, time
from pathlib import Path
import torch
from grok_lightning.records.checkpoint import CONFIG_KEY, save
torch.set_num_threads(1)
path = Path(sys.argv[1])
number = 0
def save_next():
    config = {"data": {}, "model": {}, "trainer": {}, "seed_everything": number}
    parts = [torch.full((250_000,), float(number)) for _ in range(2)]
    save({CONFIG_KEY: config, "state_dict": {}, "global_step": number, "parts": parts}, path)
save_next()
print("READY", flush=True)
for line in sys.stdin:
    number += 1000
    before = os.stat(path)
    child = os.fork()
    if child == 0:
        while True:
            number += 1
            save_next()
    while os.stat(path).st_mtime_ns == before.st_mtime_ns:
        time.sleep(0.001)  # until it has saved once, however slow the machine
    time.sleep(float(line))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("KILLED", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    save(CONTENT, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


def same(one: dict, other: dict) -> bool:
    tensors = zip(one["state_dict"].items(), other["state_dict"].items(), strict=True)
    plain = all(one[key] == other[key] for key in (CONFIG_KEY, "global_step"))
    return plain and all(a == b and torch.equal(x, y) and x.dtype == y.dtype for (a, x), (b, y) in tensors)


def test_what_is_saved_is_loaded(path: Path) -> None:
    assert same(load(path), CONTENT)


def test_a_checkpoint_is_an_ordinary_torch_file_and_a_sound_zip(path: Path) -> None:
    assert same(torch.load(path, weights_only=True), CONTENT)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_saving_makes_the_directory_and_leaves_one_file(tmp_path: Path) -> None:
    save(CONTENT, tmp_path / "checkpoints" / "0" / "last.ckpt")
    assert [entry.name for entry in (tmp_path / "checkpoints" / "0").iterdir()] == ["last.ckpt"]


def places(length: int) -> list[int]:
    """Places all over a file, and every one near its ends, where headers, comment and checksum are."""
    inner = random.Random(0).sample(range(64, length - 128), 200)
    return [*range(64), *inner, *range(length - 128, length)]


def test_every_flipped_bit_is_noticed(path: Path) -> None:
    whole, rng = path.read_bytes(), random.Random(1)
    for place in places(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        refusal(path)


def test_every_truncation_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for length in places(len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("extra", [b"\0", b"\n", b"PK\5\6" + bytes(18)])
def test_bytes_added_at_the_end_are_noticed(path: Path, extra: bytes) -> None:
    path.write_bytes(path.read_bytes() + extra)
    refusal(path)


def test_missing_files_directories_and_empty_files_are_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "missing.ckpt")
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "empty.ckpt").touch()
    assert "empty" in refusal(tmp_path / "empty.ckpt")


def foreign_torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save(CONTENT, buffer)
    return buffer.getvalue()


def foreign_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(17))
    return buffer.getvalue()


FOREIGN = {
    "torch": foreign_torch_file(),
    "zip": foreign_zip(),
    "text": b"step,val/acc\n0,0.01\n" * 99,
    "pickle": pickle.dumps({CONFIG_KEY: {}}),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_files_of_other_programs_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.ckpt").write_bytes(content)
    refusal(tmp_path / "other.ckpt")


def test_a_zip_with_our_comment_over_other_content_is_refused(path: Path) -> None:
    comment = zipfile.ZipFile(path).comment
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(17))
        archive.comment = comment
    assert "checksum" in refusal(path)


@pytest.mark.parametrize("kind", ["zip", "text", "pickle"])
def test_a_right_checksum_over_what_is_no_checkpoint_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda _, buffer: buffer.write(FOREIGN[kind]))
        save(CONTENT, tmp_path / "sealed.ckpt")
    refusal(tmp_path / "sealed.ckpt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [CONFIG_KEY], 17], ids=["no config", "list", "number"])
def test_plain_data_that_is_no_run_is_refused(path: Path, content: dict) -> None:
    save(content, path)
    assert "no config" in refusal(path)


class Program:
    """Unpickled, it calls a function."""

    def __init__(self, call: Callable, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


@pytest.mark.parametrize("how", ["shell", "python", "method"])
def test_a_checkpoint_is_never_run_as_a_program(path: Path, tmp_path: Path, how: str) -> None:
    created = tmp_path / "created"
    program = {
        "shell": Program(os.system, f"touch {created}"),
        "python": Program(exec, f"import os; os.mkdir({str(created)!r})"),
        "method": Program(Path.touch, created),
    }[how]
    save({**CONTENT, "loops": program}, path)
    assert "plain data" in refusal(path)
    assert not created.exists()
    torch.load(path, weights_only=False)
    assert created.exists()


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture(params=["fsync", "replace", "write"])
def disk_fills_up(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[None]:
    if request.param != "write":
        monkeypatch.setattr(os, request.param, full_disk)
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("disk_fills_up")
def test_a_full_disk_leaves_the_previous_checkpoint(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"No space left|File too large"):
        save({**CONTENT, "global_step": 18, "more": torch.zeros(100_000)}, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_sweep_removes_temporary_files_alone(path: Path) -> None:
    (path.parent / f"{TEMPORARY}123-last.ckpt").write_bytes(b"part")
    (path.parent / f"{TEMPORARY}124-metrics.csv").write_bytes(b"")
    sweep(path.parent)
    assert list(path.parent.iterdir()) == [path]
    sweep(path.parent / "missing")


def test_writing_durably_replaces_the_whole_content(tmp_path: Path) -> None:
    for content in (b"long content", b"short", b""):
        write_durably(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    path, rng, numbers = tmp_path / "last.ckpt", random.Random(0), set()
    command = [sys.executable, "-c", SAVER, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as saver:
        assert saver.stdin is not None
        assert saver.stdout is not None
        assert saver.stdout.readline() == "READY\n"
        for _ in range(20):
            saver.stdin.write(f"{rng.uniform(0.005, 0.06)}\n")
            saver.stdin.flush()
            assert saver.stdout.readline() == "KILLED\n"
            loaded = load(path)
            number = loaded[CONFIG_KEY]["seed_everything"]
            assert all(bool((part == number).all()) for part in loaded["parts"])
            numbers.add(number)
        saver.stdin.close()
    assert len(numbers) > 1, "nothing was ever saved before a kill"
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_lightning_saves_and_loads_our_way(tmp_path: Path) -> None:
    io_plugin = checkpoint.DurableCheckpointIO()
    io_plugin.save_checkpoint(CONTENT, str(tmp_path / "last.ckpt"))
    assert same(io_plugin.load_checkpoint(str(tmp_path / "last.ckpt")), CONTENT)
    assert same(load(tmp_path / "last.ckpt"), CONTENT)
