"""Experiments on single runs: long ones, killed ones, two of one name, signals, limits, lost records, the clock."""

import hashlib
import json
import os
import random
import resource
import shlex
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from processes import PATIENCE, Command, Fresh, Hang, look_at, run_fresh, wait_for

TINY = (
    *(
        "--experiment",
        "e",
        "--data.modulus",
        "5",
        "--data.batch_size",
        "8",
        "--threads",
        "1",
        "--trainer.accelerator",
        "cpu",
    ),
    *("--model.network", "MLP", "--model.network.width", "4", "--trainer.enable_progress_bar", "false"),
)
TIMES = ("seconds", "steps_per_second", "compile_seconds", "config", "stack", "config_hash")


@dataclass
class Trial:
    """What an experiment may use, and what it finds.

    Attributes:
        where: An empty directory.
        seconds: About how long it may take.
        random: Of its own seed.
        scale: Its size, 1 for all of it.
        figures: What it did, in a few words each.
        defects: What is wrong.
    """

    where: Path
    seconds: float
    random: random.Random
    scale: float = 1.0
    figures: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    @property
    def is_over(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() > self.deadline

    def count(self, whole: int, least: int = 1) -> int:
        """A number of repetitions, scaled down with the time there is."""
        return max(least, round(whole * min(1.0, self.scale)))

    def note(self, fault: str) -> bool:
        """Keeps a defect, unless it is empty or known; returns whether there is one."""
        if fault and fault not in self.defects:
            self.defects.append(fault)
        return bool(fault)


def logs(where: Path, run: str) -> Path:
    """The directory of a run's record."""
    return where / "lightning_logs/e" / run


def last(where: Path, run: str) -> Path:
    """The checkpoint that a run is resumed from."""
    return where / "checkpoints/e" / run / "last.ckpt"


def step_of(where: Path, run: str) -> int:
    """The last evaluated step; -1 if there is none."""
    with suppress(OSError, ValueError, IndexError):
        return int((logs(where, run) / "metrics.csv").read_text().splitlines()[-1].split(",")[0])
    return -1


def read_result(where: Path, run: str) -> dict[str, Any] | None:
    """``result.json`` without times and names; None while there is none."""
    try:
        found = json.loads((logs(where, run) / "result.json").read_text())
    except (OSError, ValueError):
        return None
    return {key: value for key, value in found.items() if key not in TIMES}


def state_of(where: Path, run: str) -> str:
    """A hash of a run's record and of its last weights."""
    found = hashlib.sha256((logs(where, run) / "metrics.csv").read_bytes())
    found.update(json.dumps(read_result(where, run), sort_keys=True).encode())
    weights = torch.load(last(where, run), weights_only=True)["state_dict"]
    for name, weight in sorted(weights.items()):
        found.update(name.encode() + weight.numpy().tobytes())
    return found.hexdigest()[:12]


def leftovers(where: Path) -> list[str]:
    """Temporary files."""
    return [
        str(path.relative_to(where))
        for path in where.rglob("*")
        if path.name.startswith(".saving-") or path.suffix == ".new"
    ]


def fit(trial: Trial, run: str, steps: int, *more: object, **options: Any) -> Command:
    """Starts a fit."""
    return Command("fit", *TINY, "--run", run, "--trainer.max_steps", steps, *more, where=trial.where, **options)


def resume(trial: Trial, run: str, *more: object, **options: Any) -> Command:
    """Resumes one."""
    return Command("fit", "--experiment", "e", "--run", run, "--ckpt_path", "last", *more, where=trial.where, **options)


def long_run(trial: Trial) -> None:
    """Memory, open files and the time of a step stay what they are."""
    steps = trial.count(30_000, 1_500)
    command = fit(trial, "a", steps, "--evaluation.every", 50, "--checkpoint.every", 50, "--evaluation.stop_after", 0)
    samples: list[tuple[int, int, int, float]] = []
    while command.is_running:
        found, step = look_at(command.pid), step_of(trial.where, "a")
        if found and step > 0 and (not samples or step > samples[-1][0]):
            samples.append((step, found.resident, found.files, found.seconds))
        time.sleep(0.1)
    trial.note(command.complain(0))
    if len(samples) < 12:
        trial.note(f"only {len(samples)} samples in {steps:,} steps")
        return
    settled = samples[len(samples) // 4 : -1]
    x, y = [sample[0] for sample in settled], [sample[1] / 2**20 for sample in settled]
    slope = statistics.linear_regression(x, y).slope * 30_000
    files = [sample[2] for sample in settled]
    pairs = pairwise(settled)
    costs = [(after[3] - before[3]) / (after[0] - before[0]) * 1e3 for before, after in pairs]
    third = len(costs) // 3
    early, late = (sum(part) / len(part) for part in (costs[:third], costs[-third:]))
    trial.figures += [
        f"{steps:,} steps", f"{max(y):.0f} MiB", f"{slope:+.1f} MiB in 30,000 steps",
        f"{min(files)} to {max(files)} files",
        f"{early:.2f} then {late:.2f} ms of processor time a step",
    ]  # fmt: skip
    trial.note(f"memory grows by {slope:.0f} MiB in 30,000 steps" if slope > 32 and max(y) - min(y) > 4 else "")
    trial.note(f"open files grow from {files[0]} to {files[-1]}" if files[-1] > files[0] + 2 else "")
    trial.note(f"a step takes {late / early:.1f} times as long at the end" if late > 1.6 * early + 0.2 else "")


def strike(place: int, after: bool, name: str = "") -> Callable[[], None]:
    """Has a process kill itself at its n-th durable writing, of a file of that name, if one is given."""

    def install() -> None:
        original, left = os.replace, place

        def watched(source: Any, target: Any, **options: Any) -> None:
            nonlocal left
            left -= name in str(target)
            now = left == 0 and name in str(target)
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            original(source, target, **options)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = watched

    return install


def kills(trial: Trial) -> None:
    """A fit that is killed at any moment and resumed equals one that was not disturbed."""
    steps, wanted = 120, trial.count(60, 3)
    options = ("--evaluation.every", 10, "--checkpoint.every", 1, "--evaluation.stop_after", 0)
    began = time.monotonic()
    whole = fit(trial, "whole", steps, *options)
    if trial.note(whole.complain(0)):
        return
    seconds = time.monotonic() - began
    reference = state_of(trial.where, "whole")
    killed = finished = lost = 0
    while killed < wanted and not trial.is_over:
        run = f"r{finished + lost}"
        command = fit(trial, run, steps, *options, first=_random_strike(trial, steps))
        while True:
            if trial.random.random() < 0.5:
                wait_for(lambda: False, trial.random.uniform(0, seconds), command)
                command.kill()
            status = command.wait()
            killed += status == -signal.SIGKILL
            if read_result(trial.where, run) is not None:
                break
            if status != -signal.SIGKILL:
                trial.note(f"a run can never be finished: {command.complain(0)}"[:160])
                break
            first = _random_strike(trial, steps) if killed < wanted else None
            if last(trial.where, run).exists():
                command = resume(trial, run, first=first)
            else:
                command = fit(trial, run, steps, *options, "--overwrite", first=first)
            if killed >= wanted:
                command.wait()
        if read_result(trial.where, run) is None:
            lost += 1
            continue
        finished += 1
        trial.note(
            ""
            if state_of(trial.where, run) == reference
            else "a killed and resumed run differs from an undisturbed one"
        )
        trial.note("".join(f"left behind: {name}" for name in leftovers(trial.where) if run in name)[:200])
    trial.figures += [
        f"{killed} kills",
        f"{finished} runs equal to the undisturbed one" if not lost else f"{finished} runs finished, {lost} lost",
    ]


def _random_strike(trial: Trial, steps: int) -> Callable[[], None] | None:
    """At a random durable writing of the next life, or right at the record, or not at all."""
    kind = trial.random.random()
    if kind < 0.1:
        return strike(1, trial.random.random() < 0.5, "result.json")
    return strike(trial.random.randint(1, steps), trial.random.random() < 0.5) if kind < 0.6 else None


def at_the_end(trial: Trial) -> None:
    """Killed between the last checkpoint and ``result.json``, a run can be finished."""
    options = ("--evaluation.every", 10, "--checkpoint.every", 5)
    trial.note(fit(trial, "whole", 20, *options).complain(0))
    done = 0
    for place, (name, after) in enumerate([("last.ckpt", True), ("result.json", False), ("curves.png", False)]):
        writes = {"last.ckpt": 6, "result.json": 1, "curves.png": 1}[name]
        run = f"r{place}"
        status = fit(trial, run, 20, *options, first=strike(writes, after, name)).wait()
        if status != -signal.SIGKILL or read_result(trial.where, run) is not None:
            continue
        done += 1
        command = resume(trial, run)
        fault = command.complain(0)
        trial.note(f"killed before its record was written, a run cannot be finished: {fault}" if fault else "")
        if not fault:
            same = read_result(trial.where, run) == read_result(trial.where, "whole")
            trial.note("" if same else "a run that was finished after a kill has another record")
    trial.figures.append(f"{done} kills at the end")


def twice(trial: Trial) -> None:
    """Of two processes that resume one run at once, one is refused."""
    steps, rounds = 120, trial.count(5)
    options = ("--evaluation.every", 5, "--checkpoint.every", 5, "--evaluation.stop_after", 0)
    trial.note(fit(trial, "whole", steps, *options).complain(0))
    done = 0
    for number in range(rounds):
        run = f"r{number}"
        first = fit(trial, run, steps, *options)
        wait_for(lambda run=run: step_of(trial.where, run) > 20, PATIENCE, first)
        first.kill()
        both = [resume(trial, run) for _ in range(2)]
        statuses = sorted(command.wait() for command in both)
        done += 1
        if statuses != [0, 2]:
            trial.note(f"one run resumed twice at once: statuses {statuses}")
        rows = (logs(trial.where, run) / "metrics.csv").read_text().splitlines()
        steps_of_rows = [row.split(",")[0] for row in rows[1:]]
        trial.note(
            "" if len(set(steps_of_rows)) == len(steps_of_rows) else "one run resumed twice at once has duplicate rows"
        )
        if trial.is_over:
            break
    trial.figures.append(f"{done} runs resumed twice at once")


def numbers(trial: Trial) -> None:
    """Fits that begin at once without a name all get one."""
    many = trial.count(20, 4)
    commands = [Command("fit", *TINY, "--trainer.max_steps", 3, where=trial.where) for _ in range(many)]
    refused = [fault for command in commands if (fault := command.complain(0))]
    names = sorted(path.name for path in (trial.where / "lightning_logs/e").iterdir())
    trial.figures.append(f"{many} fits at once, {len(names)} runs")
    trial.note(f"{len(refused)} of {many} fits that began at once were refused: {refused[0]}" if refused else "")
    trial.note("" if len(names) == many or refused else f"{many} fits made {len(names)} runs")


def claims(trial: Trial) -> None:
    """A fit that finds its name taken after its checks leaves the other's run alone."""

    def wait() -> None:
        from grok_lightning.fit import Fit

        run = Fit.run

        def late(self: Any) -> None:
            os.kill(os.getpid(), signal.SIGSTOP)
            run(self)

        Fit.run = late  # type: ignore[method-assign]

    slow = fit(trial, "a", 3, first=wait)
    stopped = wait_for(lambda: _state(slow.pid) == "T", 60)
    other = fit(trial, "a", 20)
    trial.note(other.complain(0))
    before = (logs(trial.where, "a") / "result.json").read_bytes()
    slow.signal(signal.SIGCONT)
    fault = slow.complain(2)
    path = logs(trial.where, "a") / "result.json"
    trial.note(
        ""
        if path.exists() and path.read_bytes() == before
        else "a fit without --overwrite removed another process's finished run"
    )
    trial.note(f"the name was taken meanwhile: {fault}" if fault else "")
    trial.figures.append("1 name taken meanwhile" if stopped else "not tried")


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def signals(trial: Trial) -> None:
    """SIGTERM, SIGINT and SIGHUP at any moment: what was trained is saved, and the message is no traceback."""
    steps = 100_000
    counts = dict.fromkeys(("SIGTERM", "SIGINT", "SIGHUP"), 0)
    options = ("--evaluation.every", 20, "--checkpoint.every", 50_000, "--evaluation.stop_after", 0)
    for number in range(trial.count(24, 3)):
        if trial.is_over and number >= 3:
            break
        signum = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)[number % 3]
        run = f"r{number}"
        command = fit(trial, run, steps, *options)
        if number >= 3 and trial.random.random() < 0.4:  # during the start
            wait_for(lambda: False, trial.random.uniform(0, 0.8), command)
        else:
            wait_for(lambda run=run: step_of(trial.where, run) >= 40, PATIENCE, command)
            wait_for(lambda: False, trial.random.uniform(0, 0.3), command)
        reached = step_of(trial.where, run)
        command.signal(signum)
        status, name = command.wait(), signum.name
        counts[name] += 1
        trial.note(f"{name}: traceback" if "Traceback" in command.err else "")
        if reached > 0:
            trial.note("" if status == 128 + signum else f"{name} while training: status {status}")
            saved = (
                torch.load(last(trial.where, run), weights_only=True)["global_step"]
                if last(trial.where, run).exists()
                else -1
            )
            trial.note("" if saved >= reached else f"{name} while training: the checkpoint stands where it was")
        elif status not in (128 + signum, -signum):
            trial.note(f"{name} before the first step: status {status}")
    trial.figures.append(", ".join(f"{count} {name}" for name, count in counts.items()))


def lost_records(trial: Trial) -> None:
    """A run whose record is gone, or whose checkpoint alone was moved, does not get an invented one."""
    steps = 400
    options = (
        "--evaluation.every",
        10,
        "--checkpoint.every",
        200,
        "--evaluation.stop_after",
        0,
        "--data.train_fraction",
        0.8,
    )
    trial.note(fit(trial, "whole", steps, *options, "--model.optimizer.lr", 0.05).complain(0))
    expected = read_result(trial.where, "whole")
    command = fit(trial, "a", steps, *options, "--model.optimizer.lr", 0.05, first=strike(2, True, "last.ckpt"))
    command.wait()
    done = []
    for kind in ("metrics.csv deleted", "moved", "moved, after a validate there"):
        other = trial.where / kind.replace(" ", "-").replace(",", "")
        shutil.copytree(trial.where / "checkpoints/e/a", other / "checkpoints/e/a")
        if kind == "metrics.csv deleted":
            shutil.copytree(logs(trial.where, "a"), logs(other, "a"))
            (logs(other, "a") / "metrics.csv").unlink()
        elif kind != "moved":
            Command("validate", "--ckpt_path", last(other, "a").relative_to(other), where=other).wait()
        command = Command("fit", "--ckpt_path", last(other, "a").relative_to(other), where=other)
        fault = command.complain(0, 2)
        trial.note(f"{kind}: {fault}" if fault else "")
        found = read_result(other, "a")
        if found is not None and expected is not None:
            keys = ("memorize_step", "grok_step", "best")
            differs = next((key for key in keys if found.get(key) != expected.get(key)), None)
            trial.note(f"{kind}: {differs} is {found.get(differs)}, not {expected.get(differs)}" if differs else "")
        if "moved" in kind:
            trial.note(
                ""
                if command.wait() == 0
                else f"{kind}: a lone checkpoint is not continued: {command.err.strip()[:120]}"
            )
        done.append(kind)

    def uninstalled() -> None:
        import importlib.metadata as metadata

        def version(name: str) -> str:
            if "grok" in name:
                raise metadata.PackageNotFoundError(name)
            return original(name)

        original, metadata.version = metadata.version, version

    command = fit(trial, "uninstalled", 20, first=uninstalled)
    command.wait()
    trained = step_of(trial.where, "uninstalled") >= 20
    trial.note(
        "an uninstalled source tree trains and loses the record"
        if trained and read_result(trial.where, "uninstalled") is None
        else ""
    )
    trial.figures.append(f"{len(done) + 1} lost records")


def logs_removed(trial: Trial) -> None:
    """A record's directory that goes while its run trains, and a full disk, end a fit with one line."""
    command = fit(trial, "a", 100_000, "--evaluation.every", 10, "--evaluation.stop_after", 0)
    wait_for(lambda: step_of(trial.where, "a") > 20, PATIENCE, command)
    shutil.rmtree(logs(trial.where, "a"), ignore_errors=True)
    wait_for(lambda: False, 5, command)
    if command.is_running:
        command.signal(signal.SIGTERM)
        fault = command.complain(128 + signal.SIGTERM)
    else:
        fault = command.complain(1, 2)
    trial.note(f"logs removed while training: {fault}" if fault else "")
    sizes = [2**power for power in range(6, 16)]
    tried = trial.count(len(sizes), 3)
    for size in trial.random.sample(sizes, tried):

        def full(size: int = size) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        fault = fit(trial, f"full-{size}", 60, "--evaluation.every", 5, first=full).complain(0, 1, 2)
        trial.note(f"files of at most {size} bytes: {fault}" if fault else "")
    trial.figures.append(f"1 removed record, {tried} full disks")


def limits(trial: Trial) -> None:
    """Few files, little memory, no threads: success or one line, never a hang or a traceback."""
    trial.note(fit(trial, "a", 20, "--evaluation.every", 10).complain(0))
    checkpoint = last(trial.where, "a").relative_to(trial.where)
    uses: list[tuple[object, ...]] = [
        ("generate", checkpoint, "1+1="), ("validate", "--ckpt_path", checkpoint), ("report", "e", "--out", "r"),
        ("fit", *TINY, "--trainer.max_steps", 5, "--overwrite", "--run", "b"),
    ]  # fmt: skip
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def few_files(more: int) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3 + more, 3 + more))

    def little_memory(mebibytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (size + mebibytes * 2**20,) * 2)

    def no_threads(spared: int) -> None:
        import threading

        start = threading.Thread.start
        left = spared

        def refuse(self: threading.Thread) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise RuntimeError("can't start new thread")
            start(self)

        threading.Thread.start = refuse  # type: ignore[method-assign]

    kinds: list[tuple[str, Callable[[int], None], int]] = [
        *((f"{3 + more} files", few_files, more) for more in (1, 2, 3, 5, 8, 13, 21)),
        *((f"{more} MiB more", little_memory, more) for more in (0, 4, 16, 32, 64, 128, 256)),
        *((f"{more} threads", no_threads, more) for more in (0, 1)),
    ]
    trials = [(use, *kind) for use in uses for kind in kinds]
    tried = 0
    for use, name, limit, number in trial.random.sample(trials, trial.count(len(trials), 6)):
        if trial.is_over and tried >= 6:
            break
        command = Command(*use, where=trial.where, first=lambda limit=limit, number=number: limit(number))
        try:
            fault = command.complain(0, 1, 2)
        except Hang:
            fault = "hangs"
        tried += 1
        trial.note(f"{use[0]} with {name}: {fault}" if fault else "")
    fresh = 0
    for name, kind, number in [
        ("nofile 64", resource.RLIMIT_NOFILE, 64), ("nofile 24", resource.RLIMIT_NOFILE, 24), ("3 GiB",
        resource.RLIMIT_AS, 3 * 2**30),
        ("1 GiB", resource.RLIMIT_AS, 2**30), ("no processes", resource.RLIMIT_NPROC, 1),
    ][: trial.count(5, 1)]:  # fmt: skip
        if trial.is_over and fresh:
            break
        fresh += 1
        found = run_fresh(
            *uses[0],
            where=trial.where,
            limits=lambda kind=kind, number=number: resource.setrlimit(kind, (number, number)),
        )
        trial.note(f"ulimit, {name}: {fault}" if (fault := _complain(found)) else "")
    trial.figures.append(f"{tried} limits after the start, {fresh} by ulimit")


def _complain(found: Fresh) -> str:
    lines = found.err.strip().splitlines()
    if found.status is None:
        return "hangs"
    if "Traceback" in found.err:
        return f"traceback: {lines[-1][:150]}"
    if found.status and len(lines) != 1:
        return f"status {found.status}, {len(lines)} lines"
    return ""


def optimized(trial: Trial) -> None:
    """``python -O`` trains the same run."""
    runs = {}
    for name, python in (("plain", ()), ("optimized", ("-O",))):
        found = run_fresh(
            "fit",
            *TINY,
            "--run",
            name,
            "--trainer.max_steps",
            60,
            "--evaluation.every",
            10,
            where=trial.where,
            python=python,
        )
        trial.note(f"{name}: {fault}" if (fault := _complain(found)) else "")
        runs[name] = state_of(trial.where, name) if found.status == 0 else name
    trial.note("" if len(set(runs.values())) == 1 else "python -O trains another run")
    trial.figures.append("2 runs of 60 steps")


def clock(trial: Trial) -> None:
    """A clock that is set back by an hour changes no result."""
    steps = 200
    options = ("--evaluation.every", 5, "--checkpoint.every", 20, "--evaluation.stop_after", 0)
    trial.note(fit(trial, "whole", steps, *options).complain(0))
    moments = trial.count(6, 2)
    for number in range(moments):
        run = f"r{number}"
        first = set_back(trial.random.randint(0, 60))
        command = fit(trial, run, steps, *options, first=first)
        if number % 2:
            wait_for(lambda run=run: step_of(trial.where, run) > 40, PATIENCE, command)
            command.kill()
            if read_result(trial.where, run) is None:
                command = resume(trial, run, first=set_back(0))
        trial.note(f"clock set back: {fault}" if (fault := command.complain(0)) else "")
        path = logs(trial.where, run) / "result.json"
        seconds = json.loads(path.read_text())["seconds"] if path.exists() else 0
        trial.note(f"clock set back: a run took {seconds} s" if not 0 <= seconds < 600 else "")
        trial.note(
            ""
            if path.exists() and state_of(trial.where, run) == state_of(trial.where, "whole")
            else "clock set back: another result"
        )
    report = Command("report", "e", "--out", "r", where=trial.where)
    trial.note(f"clock set back, report: {fault}" if (fault := report.complain(0)) else "")
    trial.figures.append(f"{moments} runs and a report")


def set_back(calls: int) -> Callable[[], None]:
    """Has the clock, and the times of files written durably, go back by an hour after some looks at it."""

    def install() -> None:
        look, replace, left = time.time, os.replace, calls

        def earlier() -> float:
            nonlocal left
            left -= 1
            return look() - (3600 if left < 0 else 0)

        def replace_earlier(source: Any, target: Any, **options: Any) -> None:
            replace(source, target, **options)
            with suppress(OSError):
                os.utime(target, (earlier(), earlier()))

        time.time, os.replace = earlier, replace_earlier

    return install


def pipes(trial: Trial) -> None:
    """A closed pipe ends quietly; Ctrl-C is one line; the printed command resumes, also where a path has a space."""
    for arguments in (("configs",), ("fit", "--help-all"), ("configs", "addition")):

        def closed() -> None:
            reader, writer = os.pipe()
            os.dup2(writer, 1)
            os.close(reader)
            sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)

        command = Command(*arguments, where=trial.where, first=closed)
        command.wait()
        trial.note(
            f"{' '.join(arguments)} into a closed pipe: {command.err.strip()[-120:]}" if command.err.strip() else ""
        )
    root = trial.where / "a b"
    command = Command("fit", *TINY, "--run", "c d".replace(" ", "-"), "--trainer.max_steps", 100_000,
    "--evaluation.every", 10,
                      "--evaluation.stop_after", 0, "--trainer.default_root_dir", root, where=trial.where)  # fmt: skip
    wait_for(lambda: step_of(root, "c-d") > 20, PATIENCE, command)
    command.signal(signal.SIGTERM)
    command.wait()
    words = shlex.split(command.err.strip().splitlines()[-1]) if command.err.strip() else []
    words = words[words.index("fit") :] if "fit" in words else []
    again = Command(*words, "--trainer.max_steps", step_of(root, "c-d") + 30, where=trial.where)
    trial.note(f"the printed command does not resume: {fault}" if (fault := again.complain(0)) else "")
    interrupted = 0
    for number in range(trial.count(6, 2)):
        use = (
            ("report", "e", "--root", root, "--out", "r")
            if number % 2
            else ("generate", last(root, "c-d"), *["1+1="] * 4000)
        )
        command = Command(*use, where=trial.where)
        wait_for(lambda: False, trial.random.uniform(0.15, 0.5), command)
        if command.is_running:
            command.signal(signal.SIGINT)
            command.wait()
            interrupted += 1
            lines = command.err.strip().splitlines()
            fine = command.wait() == 130 and len(lines) == 1 and "interrupted" in lines[0]
            trial.note("" if fine else f"Ctrl-C in {use[0]}: status {command.wait()}, {len(lines)} lines")
    trial.figures.append(f"3 closed pipes, 1 printed command, {interrupted} interrupts")
