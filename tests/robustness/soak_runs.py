"""Experiments on single runs: long ones, killed ones, two of one name, and lost records."""

import os
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments import TINY, Trial, fit, last, leftovers, logs, read_result, resume, state_of, step_of, strike
from processes import PATIENCE, Command, look_at, wait_for


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
                trial.note(f"a run can never be finished: {command.complain(0)}".replace(run, "RUN")[:160])
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
    names = [path for path in (trial.where / "lightning_logs/e").iterdir() if path.is_dir() and path.name.isdigit()]
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
