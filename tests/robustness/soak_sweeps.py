"""Experiments on sweeps: killed workers and parents, two sweeps of one file, a file that is edited, the clock."""

import json
import math
import os
import signal
import time
from pathlib import Path

from experiments import Trial, leftovers, set_back
from processes import PATIENCE, Command, children_of, kill_quietly, wait_for

FILE = """\
set:
  data: {{modulus: 5, batch_size: 8}}
  model: {{network: {{class_path: MLP, width: 4}}, compile: false}}
  trainer: {{accelerator: cpu, max_steps: {steps}, precision: 32-true}}
  evaluation: {{every: 10, per_decade: 0}}
  checkpoint.every: 20
grid:
  seed_everything: {seeds}
"""
OPTIONS = ("--events", "off", "--workers", "2", "--stack_size", "4")


def write(where: Path, seeds: list[int], steps: int = 60) -> None:
    """Writes the file of a sweep."""
    where.mkdir(parents=True, exist_ok=True)
    temporary = where / "written"
    temporary.write_text(FILE.format(seeds=seeds, steps=steps))
    temporary.replace(where / "e.yaml")


def sweep(where: Path, *more: str, **options: object) -> Command:
    """Starts a sweep."""
    return Command("sweep", "e.yaml", *OPTIONS, *more, where=where, **options)  # type: ignore[arg-type]


def records(where: Path) -> dict[str, list[tuple[Path, dict[str, object]]]]:
    """Records of runs that are over, by hash."""
    found: dict[str, list[tuple[Path, dict[str, object]]]] = {}
    for path in sorted((where / "lightning_logs/e").glob("*/result.json")):
        content = json.loads(path.read_text())
        found.setdefault(content["config_hash"], []).append((path.parent, content))
    return found


def done(where: Path) -> int:
    """Number of runs that are over."""
    return sum(1 for _ in (where / "lightning_logs/e").glob("*/result.json"))


def check(trial: Trial, where: Path, count: int) -> None:
    """Every run has one whole record with rows in order, and nothing temporary is left."""
    try:
        found = records(where)
    except (ValueError, KeyError) as error:
        trial.note(f"a record is damaged: {type(error).__name__}")
        return
    trial.note("" if len(found) == count else f"{len(found)} of {count} runs have a record")
    double = [hashed for hashed, each in found.items() if len(each) > 1]
    trial.note(f"{len(double)} runs have two records" if double else "")
    directories = [path for path in (where / "lightning_logs/e").iterdir() if not path.name.startswith(".")]
    trial.note("" if len(directories) == count else f"{len(directories)} directories of {count} runs")
    for each in found.values():
        directory, result = each[0]
        if result["status"] not in ("finished", "stopped"):
            trial.note(f"a run {result['status']}: {str(result.get('error'))[:120]}")
            continue
        rows = [line.split(",") for line in (directory / "metrics.csv").read_text().splitlines()]
        steps = [int(row[0]) for row in rows[1:]]
        whole = steps == sorted(set(steps)) and len({len(row) for row in rows}) == 1 and steps[-1] == result["steps"]
        trial.note(
            "" if whole else f"metrics.csv of a run is not whole: steps {steps[:3]} to {steps[-3:]}, {len(steps)} rows"
        )
    trial.note(f"left behind: {names[0]}" if (names := leftovers(where)) else "")
    notices = list((where / "lightning_logs/e/.sweep/workers").glob("*.json"))
    alive = [path for path in notices if Path(f"/proc/{path.stem.rpartition('-')[2]}").exists()]
    trial.note("a worker still says that it trains" if alive else "")


def compare(trial: Trial, where: Path, reference: Path) -> str:
    """Compares runs with those of an undisturbed sweep: equal up to rounding, for stacks add up in other orders."""
    ours, theirs = records(where), records(reference)
    compared = same = 0
    for hashed in theirs.keys() & ours.keys():
        (left, result), (right, expected) = ours[hashed][0], theirs[hashed][0]
        a, b = (_numbers(directory / "metrics.csv") for directory in (left, right))
        close = len(a) == len(b) and all(
            len(x) == len(y) and all(math.isclose(p, q, rel_tol=1e-3, abs_tol=1e-4) for p, q in zip(x, y, strict=True))
            for x, y in zip(a, b, strict=True)
        )
        keys = ("status", "steps", "budget", "memorize_step", "grok_step")
        differs = next((key for key in keys if result.get(key) != expected.get(key)), "")
        trial.note("" if close else "metrics.csv of a run differs from that of an undisturbed sweep")
        trial.note(f"{differs} of a run differs from that of an undisturbed sweep" if differs else "")
        compared += 1
        same += (left / "metrics.csv").read_bytes() == (right / "metrics.csv").read_bytes()
    return f"{compared} compared with an undisturbed sweep, {same} of them the same to the bit"


def _numbers(path: Path) -> list[list[float]]:
    lines = path.read_text().splitlines()[1:]
    return [[float(cell) for cell in line.split(",") if cell and cell != "nan"] for line in lines]


def killed_sweep(trial: Trial) -> None:
    """Workers, the parent and both are killed, and two sweeps of one file run at once."""
    count = trial.count(300, 12)
    reference, where = trial.where / "reference", trial.where / "killed"
    sample = sorted(trial.random.sample(range(count), min(12, count)))
    write(reference, sample)
    trial.note(f"undisturbed: {fault}" if (fault := sweep(reference).complain(0)) else "")
    write(where, list(range(count)))
    counts = {"two": 0, "worker": 0, "both": 0, "parent": 0}
    kinds = list(counts)
    while done(where) < count and not (trial.is_over and all(counts.values())):
        kind = kinds[sum(counts.values()) % 4]
        commands = [sweep(where) for _ in range(2 if kind == "two" else 1)]
        before = done(where)
        wait_for(lambda before=before: done(where) > before, 60, commands[0])
        wait_for(lambda: False, trial.random.uniform(0, 4), commands[0])
        if not any(command.is_running for command in commands):
            break
        workers = [pid for command in commands if command.is_running for pid in children_of(command.pid)]
        if kind in ("parent", "both", "two"):
            commands[0].kill()
        for pid in workers if kind == "both" else workers[:1] if kind == "worker" else []:
            kill_quietly(pid)
        counts[kind] += 1
        if kind == "worker":  # it goes on, with another worker
            wait_for(lambda: False, trial.random.uniform(2, 6), commands[0])
            commands[0].kill()
        if kind == "two":
            wait_for(lambda: False, trial.random.uniform(1, 4), commands[1])
            commands[1].kill()
        for pid in workers:
            wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists() or _is_over(pid), 30)
    for _ in range(3):
        final = sweep(where, "--retry_failed")
        if final.wait(600) == 0 and done(where) == count:
            break
    trial.note(final.complain(0))
    check(trial, where, count)
    compared = compare(trial, where, reference)
    killed = ", ".join(f"{number} of {kind}" for kind, number in counts.items())
    trial.figures += [f"{count} runs", f"kills: {killed}", compared]


def _is_over(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def edited(trial: Trial) -> None:
    """A sweep whose file changes while it runs trains what it read; the next one does the rest."""
    where, many = trial.where, trial.count(12, 6)
    write(where, list(range(many)))
    command = sweep(where)
    wait_for(lambda: done(where) > 0, PATIENCE, command)
    (where / "e.yaml").write_text("grid: {seed_everything: [0, 1")
    wait_for(lambda: False, 0.5, command)
    status = Command("sweep", "status", "e.yaml", where=where)
    trial.note(f"status of a broken file: {fault}" if (fault := status.complain(2)) else "")
    write(where, list(range(many // 2, many + many // 2)))
    trial.note(f"edited while running: {fault}" if (fault := command.complain(0)) else "")
    trial.note("" if done(where) == many else f"{done(where)} of {many} runs of the file as it was read are over")
    again = sweep(where)
    trial.note(f"the edited file: {fault}" if (fault := again.complain(0)) else "")
    check(trial, where, many + many // 2)
    trial.figures.append(f"{many} runs, edited twice, then {many // 2} more")


def sweep_clock(trial: Trial) -> None:
    """A clock that is set back while a sweep runs changes nothing."""
    where, many = trial.where, trial.count(16, 4)
    reference = where / "reference"
    write(reference, list(range(many)))
    trial.note(sweep(reference).complain(0))
    shim = where / "shim"
    shim.mkdir()
    source = (
        "import os, time\n_look, _replace, _began = time.time, os.replace, time.monotonic()\n"
        "def _earlier():\n    return _look() - (3600 if time.monotonic() - _began > 6 else 0)\n"
        "def _replaced(source, target, **options):\n    _replace(source, target, **options)\n"
        "    os.utime(target, (_earlier(), _earlier()))\n"
        "time.time, os.replace = _earlier, _replaced\n"
    )
    (shim / "sitecustomize.py").write_text(source)
    write(where, list(range(many)))
    path = os.pathsep.join(part for part in (str(shim), os.environ.get("PYTHONPATH", "")) if part)
    command = sweep(where, first=set_back(200), environment={"PYTHONPATH": path})
    trial.note(f"clock set back: {fault}" if (fault := command.complain(0)) else "")
    check(trial, where, many)
    compared = compare(trial, where, reference)
    status = Command("sweep", "status", "e.yaml", where=where)
    trial.note(f"status: {fault}" if (fault := status.complain(0)) else "")
    trial.note("" if f"{many} finished" in status.out else f"status says {status.out.splitlines()[:1]}")
    trial.figures.append(f"{many} runs, {compared}")


def hung_up(trial: Trial) -> None:
    """SIGTERM, SIGINT and SIGHUP to a sweep: its workers save and end, and the same command goes on."""
    where, many = trial.where, trial.count(12, 4)
    write(where, list(range(many)), steps=3000)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        command = sweep(where)
        wait_for(lambda: any((where / "lightning_logs/e").glob("*/metrics.csv")), PATIENCE, command)
        time.sleep(trial.random.uniform(0, 2))
        workers = children_of(command.pid)
        command.signal(signum)
        status = command.wait()
        trial.note("" if status in (128 + signum, 0) else f"{signum.name}: status {status}")
        trial.note(f"{signum.name}: traceback" if "Traceback" in command.err else "")
        gone = wait_for(lambda workers=workers: all(_is_over(pid) for pid in workers), 60)
        trial.note("" if gone else f"{signum.name}: workers are left")
    write(where, list(range(many)))
    trial.figures.append(f"3 signals, {done(where)} of {many} runs over")
