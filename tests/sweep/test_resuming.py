"""Whatever a sweep was doing when it ended: started again, it comes to what it would have come to undisturbed."""

import errno
import os
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import leave_out_images
from small_sweeps import EASY, Point, as_the_program, directories, jobs, outcomes, results, struck, tables, write
from training_here import train_here

from grok_lightning.__main__ import main
from grok_lightning.records.checkpoint import CONFIG_KEY, EVALUATIONS_KEY, load, save, unpack_evaluations
from grok_lightning.records.locks import lock_name, locks_of
from grok_lightning.records.record import read_metrics
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.run.failures import drop_unusable
from grok_lightning.sweep.run.worker import run_job

Command = Callable[..., tuple[int, str, str]]
Undisturbed = Callable[[int], tuple[Any, ...]]
LEAVING = EASY | {"evaluation.every": 2, "evaluation.stop_after": 2, "trainer.max_steps": 16, "checkpoint.every": 4}
RATES = [0.0001, 0.003, 1e30, 0.03]  # over at 16, 6, 1 and 4
STACK, RUN = r"/\.stacks/[^/]+/", r"/lr=[^/]+/"


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    train_here(monkeypatch)


def arguments(size: int) -> list[str]:
    path = write("e", {"model.optimizer.lr": RATES if size > 1 else RATES[:2]}, **LEAVING)
    return ["sweep", str(path), "--stack-size", str(size), "--events", "off"]


def begin(size: int) -> None:
    """The sweep without its planning, which takes as long as two runs."""
    for job in jobs(Path(arguments(size)[1]), size):
        run_job(job)


def ends() -> tuple[Any, ...]:
    """All that a sweep leaves, and must leave however often it was interrupted."""
    kept = {
        path.name: sorted(file.name for file in Path("checkpoints/e", path.name).iterdir()) for path in directories("e")
    }
    unfinished = [path.name for path in Path("checkpoints/e").iterdir() if path.name == ".stacks"]
    return tables("e"), outcomes("e"), kept, unfinished


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Any, ...]]:
    """What a sweep of a stack size comes to; trained when it is first asked for."""

    @cache
    def found(size: int) -> tuple[Any, ...]:
        with pytest.MonkeyPatch.context() as patch, as_the_program():
            train_here(patch)
            leave_out_images(patch)
            patch.chdir(tmp_path_factory.mktemp("undisturbed"))
            assert main(arguments(size)) == 0
            return ends()

    return found


class Killed(BaseException):
    """Ends everything, as if the process were no more."""


def kill() -> None:
    raise Killed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "point"),
    [
        (4, (STACK + "members.json", 1, "after")),  # nothing is trained yet
        (4, (RUN + "result.json", 1, "before")),  # the first leaves, past the last checkpoint
        (4, (STACK + "last.ckpt", 3, "after")),  # half have left: the whole stack is saved,
        (4, (STACK + "members.json", 2, "after")),  # then the smaller one begun,
        (4, (STACK + "last.ckpt", 4, "after")),  # and both are there
        (4, (RUN + "result.json", 4, "before")),  # at the end of its budget, without a record
        (1, (RUN + "last.ckpt", 3, "after")),
        (1, (RUN + "result.json", 1, "before")),  # at the end of its budget, without a record
        (1, (RUN + "result.json", 2, "before")),  # where it was to stop, without a record
    ],
)
def test_killed_and_started_again(command: Command, undisturbed: Undisturbed, size: int, point: Point) -> None:
    with as_the_program(), struck(point, kill), pytest.raises(Killed):
        begin(size)
    assert len(results("e")) < len(undisturbed(size)[0])
    with as_the_program():
        begin(size)
    assert ends()[:3] == undisturbed(size)[:3]  # what else is in the way is removed at the end of the sweep


@pytest.mark.slow
def test_a_checkpoint_of_a_version_with_fewer_options_goes_on(command: Command, undisturbed: Undisturbed) -> None:
    with as_the_program(), struck((RUN + "last.ckpt", 3, "after"), kill), pytest.raises(Killed):
        begin(1)
    (path,) = Path("checkpoints/e").glob("*/last.ckpt")
    checkpoint = load(path)
    assert checkpoint["global_step"] > 0
    model = checkpoint[CONFIG_KEY]["model"]
    for options, name in ((model, "outputs"), (model, "constraints"), (model["network"], "embedding_rank")):
        del options[name]
    save(checkpoint, path)
    saved = path.read_bytes()
    with as_the_program(), struck((RUN + "last.ckpt", 1, "before"), kill), pytest.raises(Killed):
        begin(1)  # it goes on instead of beginning anew
    assert path.read_bytes() == saved
    with as_the_program():
        begin(1)
    assert ends()[:3] == undisturbed(1)[:3]


def test_killed_again_and_again(command: Command, undisturbed: Undisturbed) -> None:
    for point in ((STACK + "last.ckpt", 2, "after"), (STACK + "last.ckpt", 2, "before"), (RUN + "result", 1, "after")):
        with as_the_program(), struck(point, kill), pytest.raises(Killed):
            begin(4)
    assert command(*arguments(4))[0] == 0
    assert ends() == undisturbed(4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "point", "over"),
    [
        (4, (RUN + "result.json", 1, "before"), 1),  # honored at the end of this step
        (4, (STACK + "last.ckpt", 3, "before"), 2),  # while the stack is closed up
        (1, (RUN + "result.json", 2, "before"), 2),  # after the last step of a run
        (1, (RUN + "grok.ckpt", 1, "before"), 1),  # honored at the end of this step
    ],
)
def test_a_signal_saves_and_starting_again_goes_on(
    command: Command, undisturbed: Undisturbed, size: int, point: Point, over: int
) -> None:
    def uncaught(*_: Any) -> None:
        raise AssertionError("nobody was there to take the signal")

    before = signal.signal(signal.SIGTERM, uncaught)
    try:
        with struck(point, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            status, _, err = command(*arguments(size))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert status == 143
    assert "the same command goes on" in err
    assert len(results("e")) == over
    assert command(*arguments(size))[0] == 0
    assert ends() == undisturbed(size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "point"),
    [
        (4, (STACK + "members.json", 1, "before")),
        (4, (STACK + "last.ckpt", 4, "before")),  # the stack is being closed up
        (1, (RUN + "result.json", 1, "before")),
    ],
)
def test_a_full_disk_ends_the_sweep_in_clear_words(
    command: Command, undisturbed: Undisturbed, size: int, point: Point
) -> None:
    """No run fails of it, nothing is damaged, and it goes on when there is room."""

    def write_nothing() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with struck(point, write_nothing):
        status, _, err = command(*arguments(size))
    assert status == 1
    assert "grok-lightning: No space left on device" in err
    assert "make room and start the sweep again" in err
    assert "Traceback" not in err
    assert all(result["status"] != "failed" for result in results("e").values())
    assert not list(Path().rglob(".saving*"))
    for checkpoint in Path("checkpoints").rglob("*.ckpt"):
        load(checkpoint)
    with as_the_program():
        begin(size)
    assert ends()[:3] == undisturbed(size)[:3]


def flip(pattern: str) -> None:
    """Changes one bit in the middle of each of these files."""
    paths = list(Path().glob(pattern))
    assert paths
    for path in paths:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def cut(pattern: str) -> None:
    """Leaves half of each of these files."""
    paths = list(Path().glob(pattern))
    assert paths
    for path in paths:
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(pattern: str) -> None:
    paths = list(Path().glob(pattern))
    assert paths
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


IN_TWO, IN_FOUR = (STACK + "last.ckpt", 4, "after"), (STACK + "last.ckpt", 2, "after")
ALONE = (RUN + "last.ckpt", 3, "after")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "point", "damage", "files"),
    [
        (1, ALONE, flip, "checkpoints/e/lr=*/last.ckpt"),
        (1, ALONE, remove, "lightning_logs/e/lr=0.0001*"),
        (1, ALONE, remove, "lightning_logs/e/lr=0.0001*/metrics.csv"),
        (1, ALONE, cut, "lightning_logs/e/.sweep/*"),
        (1, (RUN + "result.json", 2, "after"), cut, "lightning_logs/e/*/result.json"),
        (4, IN_TWO, flip, "checkpoints/e/.stacks/*/last.ckpt"),
        (4, IN_TWO, cut, "checkpoints/e/.stacks/*/members.json"),
        (4, IN_FOUR, cut, "checkpoints/e/.stacks/*/members.json"),
        (4, IN_FOUR, remove, "lightning_logs/e/lr=0.03*"),
        (4, IN_TWO, cut, "lightning_logs/e/lr=0.03*/result.json"),
        (4, IN_TWO, remove, "checkpoints/e/.stacks"),
    ],
)
def test_what_is_damaged_is_done_anew(
    command: Command,
    undisturbed: Undisturbed,
    size: int,
    point: Point,
    damage: Callable[[str], None],
    files: str,
) -> None:
    with as_the_program(), struck(point, kill), pytest.raises(Killed):
        begin(size)
    damage(files)
    assert command(*arguments(size))[0] == 0
    if size == 1:
        assert ends() == undisturbed(size)
        return
    # runs that begin anew may do so in a stack of another size
    wanted = undisturbed(size)[1]
    assert outcomes("e").keys() == wanted.keys()
    for hashed, result in outcomes("e").items():
        for key in ("status", "steps", "memorize_step", "grok_step", "sustained_grok_step"):
            assert result[key] == wanted[hashed][key]
        assert result["final"] == pytest.approx(wanted[hashed]["final"], rel=1e-5)
    assert ends()[3] == []


@pytest.mark.slow
def test_a_damaged_result_is_done_again_and_no_other(command: Command) -> None:
    assert command(*arguments(1))[0] == 0
    before = {path: path.stat().st_mtime_ns for path in Path("lightning_logs/e").glob("*/*")}
    cut("lightning_logs/e/lr=0.003*/result.json")
    assert command(*arguments(1))[0] == 0
    after = {path: path.stat().st_mtime_ns for path in Path("lightning_logs/e").glob("*/*")}
    changed = {path.parent.name[:8] for path, time in after.items() if before.get(path) != time}
    assert changed - {".sweep"} == {"lr=0.003"}


def test_a_stack_of_other_options_can_go_on_after_the_end_of_a_changed_sweep(command: Command) -> None:
    with as_the_program(), struck((STACK + "last.ckpt", 3, "after"), kill), pytest.raises(Killed):
        begin(4)
    (stack,) = Path("checkpoints/e/.stacks").glob("*")
    begun = {path: path.read_bytes() for path in stack.iterdir()}
    path = write("e", {"model.optimizer.lr": [0.01, 0.02]}, **LEAVING)
    assert command("sweep", str(path), "--stack-size", "2", "--events", "off")[0] == 0
    assert {path: path.read_bytes() for path in stack.iterdir()} == begun
    assert [path.name for path in Path("checkpoints/e/.stacks").iterdir()] == [stack.name]
    assert command(*arguments(4))[0] == 0
    assert not Path("checkpoints/e/.stacks").exists()


def test_stacks_are_removed_once_all_their_runs_are_over(tmp_path: Path) -> None:
    places = Places(tmp_path, "e")
    for name, members in {"a": ["1", "2"], "b": ["2", "3"], "c": ["4"]}.items():
        places.note_members(name, members)
    (places.stacks / "d").mkdir()
    (places.stacks / "d" / "members.json").write_text("[1")

    def left() -> list[str]:
        return sorted(path.name for path in places.stacks.iterdir())

    places.remove_stacks(["1", "2"], damaged=False)
    assert left() == ["b", "c", "d"]
    places.remove_stacks(["2", "3"], damaged=True)
    assert left() == ["c"]
    places.remove_stacks(["4"], damaged=True)
    assert not places.stacks.exists()


def test_members_of_a_stack_are_known_only_with_their_checkpoint(tmp_path: Path) -> None:
    places = Places(tmp_path, "e")
    places.note_members("a", ["1", "2"])
    assert places.read_members() == {}
    (places.stacks / "a" / "last.ckpt").touch()
    assert places.read_members() == {"a": ["1", "2"]}


@pytest.mark.slow
def test_rows_that_the_end_of_the_budget_called_for_are_kept(command: Command) -> None:
    """The budget is no point of the schedule, and the record is missing: nothing is trained, nothing is lost."""
    path = write("e", {"seed_everything": [0]}, **{"trainer.max_steps": 15, "checkpoint.every": 5})
    with struck((RUN.replace("lr", "seed") + "result.json", 1, "before"), kill), pytest.raises(Killed):
        command("sweep", path, "--events", "off")
    assert command("sweep", path, "--events", "off")[0] == 0
    (directory,) = directories("e")
    assert [row["step"] for row in read_metrics(directory)] == [0, 10, 15]
    (result,) = results("e").values()
    assert (result["status"], result["steps"], result["best"]["step"] in (0, 10, 15)) == ("finished", 15, True)


def test_a_run_that_a_fit_trains_is_left_to_it(command: Command) -> None:
    """By the lock on its directory; the other run of the stack is trained."""
    (job,) = jobs(Path(arguments(1)[1]), 2)
    locks, name = locks_of(job.places.root, "e"), job.configs[0]["run"]
    assert locks.take(lock_name(name))
    outcome = run_job(job)
    assert (outcome["busy"], outcome["done"]) == (1, 1)
    assert results("e").keys() == {job.configs[1]["run"]}
    assert not Path("lightning_logs/e", name).exists()
    locks.release(lock_name(name))
    outcome = run_job(job)
    assert (outcome["busy"], outcome["done"], len(results("e"))) == (0, 2, 2)


def test_evaluations_of_a_stack_are_in_its_checkpoint_and_older_ones_need_their_records(command: Command) -> None:
    with as_the_program(), struck((STACK + "last.ckpt", 3, "after"), kill), pytest.raises(Killed):
        begin(4)
    (path,) = Path("checkpoints/e/.stacks").glob("*/last.ckpt")
    checkpoint = load(path)
    (job,) = jobs(Path(arguments(4)[1]), 4)
    found = unpack_evaluations(checkpoint, 4)
    assert found is not None
    records = [job.record(run) for run in range(4)]
    for rows, record in zip(found, records, strict=True):
        assert [row["step"] for row in rows] == [row["step"] for row in read_metrics(record)]
    (records[0] / "metrics.csv").unlink()
    assert not drop_unusable(job)
    del checkpoint[EVALUATIONS_KEY]
    save(checkpoint, path)
    assert drop_unusable(job)
    assert not path.exists()


def test_a_whole_checkpoint_that_does_not_fit_its_runs_is_left_out(command: Command, capsys) -> None:
    with as_the_program(), struck((STACK + "last.ckpt", 3, "after"), kill), pytest.raises(Killed):
        begin(4)
    (path,) = Path("checkpoints/e/.stacks").glob("*/last.ckpt")
    checkpoint = load(path)
    name = next(key for key in checkpoint["state_dict"] if key.endswith("weight"))
    checkpoint["state_dict"][name] = checkpoint["state_dict"][name][..., :-1]
    save(checkpoint, path)
    (job,) = jobs(Path(arguments(4)[1]), 4)
    with as_the_program():
        outcome = run_job(job)
    assert (outcome["failed"], len(results("e"))) == (0, 4)
    assert "its weights are not those of its config's model; checkpoints/e/.stacks/" in capsys.readouterr().err
