"""Experiments on what surrounds a run: signals, full disks, limits, the clock, pipes, ``python -O``."""

import json
import os
import resource
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from experiments import TINY, Trial, fit, last, logs, read_result, resume, set_back, state_of, step_of
from processes import PATIENCE, Command, Fresh, Hang, run_fresh, wait_for


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
        if "without setting an exception" in fault:  # C code that had no memory even to say so
            fault = ""
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
