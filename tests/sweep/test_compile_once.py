"""A graph is compiled by one worker; the others wait for its cache, unless they have something else to do."""

import io
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from small_sweeps import EASY, NETWORKS, jobs, write

from grok_lightning.callbacks.progress import Heartbeat
from grok_lightning.callbacks.states import RunStates
from grok_lightning.sweep.places import Places
from grok_lightning.sweep.plan import sizes
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.plan.stacking import graph_key
from grok_lightning.sweep.run.executor import QueuedStack
from grok_lightning.sweep.run.local import LOOK_AHEAD, LocalExecutor, Worker
from grok_lightning.sweep.run.worker import PREPARE, Tally
from grok_lightning.sweep.show.display import Display


def job(name: str, graph: str) -> Stack:
    return Stack(".", "e", [{"run": name}], [name], graph=graph)


COUNTS = ("budget", "runs", "over", "step", "grokked", "memorized")


class Staff(LocalExecutor):
    """An executor whose workers only note what they are sent."""

    def __init__(self, workers: int, jobs: list[Stack]) -> None:
        super().__init__(workers, Path("logs"), lambda tally: None)
        self._queue.extend(QueuedStack(lambda own=own: own) for own in jobs)
        self._workers = [Worker(Mock(stdin=io.StringIO(), pid=number)) for number in range(workers)]
        self._hand_out()

    def received(self, number: int) -> list[str]:
        """What a worker was sent: names of jobs, or that it is to prepare."""
        lines = self._workers[number].process.stdin.getvalue().splitlines(keepends=True)
        return ["prepare" if line == PREPARE else json.loads(line)["hashes"][0] for line in lines]

    def tell(self, number: int, compiling: bool) -> None:
        """What a worker says of itself."""
        folder = Places(Path(), "e").notices
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"elsewhere-{number}.json").write_text(
            json.dumps(dict.fromkeys(COUNTS, 1) | {"name": "a", "compiling": compiling, "time": 2e10})
        )
        self._note_compiled()
        self._hand_out()

    def answer(self, number: int, **outcome: Any) -> None:
        """What a worker's job came to."""
        self._workers[number].process.stdout = io.StringIO(json.dumps({"stopped": 0} | outcome) + "\n")
        self._read_answer(self._workers[number])
        self._hand_out()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_same_graph_waits_for_the_first_step_of_the_first_worker() -> None:
    staff = Staff(3, [job(name, "g") for name in "abcd"])
    assert [staff.received(number) for number in range(3)] == [["a"], ["prepare"], ["prepare"]]
    assert (staff.tally.compiling, staff.tally.waiting) == (1, 2)
    staff.tell(0, compiling=True)
    assert staff.received(1) == ["prepare"]
    staff.tell(0, compiling=False)
    assert [staff.received(number) for number in range(3)] == [["a"], ["prepare", "b"], ["prepare", "c"]]
    assert (staff.tally.compiling, staff.tally.waiting) == (0, 0)
    staff.answer(0)
    assert staff.received(0) == ["a", "d"]


def test_other_graphs_and_eager_stacks_start_meanwhile() -> None:
    staff = Staff(4, [job("a", "g"), job("b", "g"), job("c", "h"), job("d", ""), job("e", "")])
    assert [staff.received(number) for number in range(4)] == [["a"], ["c"], ["d"], ["e"]]
    staff.answer(2)
    assert staff.received(2) == ["d", "prepare"]
    staff.tell(1, compiling=False)
    assert staff.received(2) == ["d", "prepare"]
    staff.tell(0, compiling=False)
    assert staff.received(2) == ["d", "prepare", "b"]


def test_a_first_worker_that_is_done_or_fails_sets_the_others_free() -> None:
    staff = Staff(2, [job(name, "g") for name in "abc"])
    staff.answer(0, failed=1)
    assert [staff.received(number) for number in range(2)] == [["a", "b"], ["prepare", "c"]]


def test_eager_stacks_never_wait() -> None:
    staff = Staff(3, [job(name, "") for name in "abc"])
    assert [staff.received(number) for number in range(3)] == [["a"], ["b"], ["c"]]
    assert staff.tally.compiling == 0


def test_few_jobs_are_made_to_look_for_another_graph() -> None:
    made: list[int] = []

    def make(number: int) -> Stack:
        made.append(number)
        return job(str(number), "g")

    staff = Staff(2, [])
    staff._queue.extend(QueuedStack(lambda number=number: make(number)) for number in range(10 * LOOK_AHEAD))
    for _ in range(3):
        staff._hand_out()
    assert len(made) <= LOOK_AHEAD + 5


@pytest.mark.parametrize("compiled", [True, False])
def test_a_worker_tells_that_it_compiles_until_its_first_step(compiled: bool) -> None:
    told: list[bool] = []
    states = RunStates([Path()], [{"train": 1, "val": 1}])
    beat = Heartbeat(states, lambda **report: told.append(report["compiling"]))
    trainer, module = Mock(global_step=0, max_steps=9, callbacks=[]), Mock(compiled=compiled)
    beat.on_train_start(trainer, module)
    beat.on_train_batch_end(trainer, module, None, None, 0)
    assert told == ([True, False] if compiled else [False])


def test_what_is_compiled_does_not_depend_on_the_optimizer_or_the_split() -> None:
    transformer = NETWORKS["Transformer"] | {"model.compile": True}

    def graphs(name: str, **varied: list[Any]) -> set[str]:
        return {job.graph for job in jobs(write(name, {k.replace("__", "."): v for k, v in varied.items()},
                                                **EASY | transformer | {"model.optimizer.lr": None}), 1)}  # fmt: skip

    optimizers = ["AdamW", "Muon", {"class_path": "AdamW", "lr": 0.1}]
    assert len(graphs("a", model__optimizer=optimizers, data__train_fraction=[0.4, 0.6], seed_everything=[0, 1])) == 1
    assert len(graphs("b", data__batch_size=[16, 17], model__loss=["mse", "cross_entropy"])) == 4
    assert len(graphs("c", data__batch_size=["full"], data__train_fraction=[0.4, 0.6])) == 2
    assert len(graphs("d", trainer__precision=["32-true", "bf16-mixed"])) == 2
    config = jobs(write("e", {"seed_everything": [0]}, **EASY), 1)[0]
    assert config.graph == ""
    assert graph_key(config.configs[0], 1) != graph_key(config.configs[0], 2)


@pytest.mark.parametrize(("pays", "said", "told"), [
    (True, None, True), (False, None, False), (True, "auto", True), (True, False, False), (False, True, False),
])  # fmt: skip
def test_a_sweep_compiles_where_it_pays_and_nobody_decided(
    command: Any, monkeypatch: pytest.MonkeyPatch, pays: bool, said: bool | str | None, told: bool
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(
        sizes, "choose_compile", lambda config, steps, fits: asked.append((steps, fits)) or pays
    )  # fmt: skip
    monkeypatch.setattr(sizes, "cores", lambda: 2)
    path = write("e", {"seed_everything": [0, 1, 2, 3]}, **EASY | NETWORKS["Transformer"] | {"model.compile": said})
    status, out, _ = command("sweep", path, "--dry-run")
    assert status == 0
    assert ("models compiled" in out) is told
    assert asked == ([] if isinstance(said, bool) else [(40, 2)])


def test_networks_other_than_transformers_are_not_compiled_by_themselves(command: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sizes, "choose_compile", lambda *_: True)
    _, out, _ = command("sweep", write("e", {"seed_everything": [0]}, **EASY | {"model.compile": None}), "--dry-run")
    assert "models compiled" not in out


def test_who_waits_is_shown_at_once() -> None:
    stream = io.StringIO()
    display = Display([Places(Path(), "e")], 4, stream)
    display.show(Tally())
    display.show(Tally(compiling=1, waiting=3))
    display.show(Tally(compiling=1, waiting=3))
    display.show(Tally())
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "compiling (1 worker; 3 wait for its cache)" in lines[1]
    assert "compiling" not in lines[2]
