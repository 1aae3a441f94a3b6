"""How stacks are handed to Ray: told to a Ray that trains nothing. ``tests/ray`` has a real one."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from lightning.pytorch.utilities import rank_zero_only

from grok_lightning.errors import UserError
from grok_lightning.sweep.plan.stack import Stack
from grok_lightning.sweep.run.cluster import RayExecutor, connect, train_on_node
from grok_lightning.sweep.run.worker import Tally

DONE = asdict(Tally(done=1))


class RayError(Exception):
    pass


class LocalRayletDiedError(RayError):
    pass


class ScriptedRay:
    """A cluster whose tasks come to what a function of their run's name says, one at a time.

    Attributes:
        handed: The run of each task, in order.
        most: The most that were in flight together.
    """

    exceptions = SimpleNamespace(RayError=RayError, LocalRayletDiedError=LocalRayletDiedError)

    def __init__(self, come_to: Callable[[str], dict[str, Any]], **resources: float) -> None:
        self.come_to, self.resources = come_to, resources
        self.handed: list[str] = []
        self.on_gpu: list[bool] = []
        self.again: list[bool] = []
        self.most = 0

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, num_gpus: int, **_: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(remote=partial(self._hand, num_gpus))

    def _hand(self, num_gpus: int, job: Stack, here: str, again: bool) -> int:
        assert Path(job.root).is_absolute()
        self.handed.append(job.configs[0]["run"])
        self.on_gpu.append(num_gpus > 0)
        self.again.append(again)
        return len(self.handed) - 1

    def wait(self, tasks: list[int], num_returns: int = 1, timeout: float = 0) -> tuple[list[int], list[int]]:
        self.most = max(self.most, len(tasks))
        return tasks[:1], tasks[1:]

    def get(self, task: int) -> dict[str, Any]:
        return self.come_to(self.handed[task])

    def cancel(self, task: int, force: bool = False) -> None:
        pass

    def shutdown(self) -> None:
        pass


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., ScriptedRay]:
    monkeypatch.chdir(tmp_path)

    def made(come_to: Callable[[str], dict[str, Any]], **resources: float) -> ScriptedRay:
        scripted = ScriptedRay(come_to, **(resources or {"CPU": 2}))
        monkeypatch.setitem(sys.modules, "ray", scripted)
        return scripted

    return made


def stacks(*names: str, accelerator: str = "auto") -> list[Callable[[], Stack]]:
    configs = [{"experiment": "e", "run": name, "trainer": {"accelerator": accelerator}} for name in names]
    return [partial(Stack, ".", "e", [config], [f"hash of {config['run']}"]) for config in configs]


def run(*waiting: Callable[[], Stack], workers: int | None = None) -> Any:
    return RayExecutor(workers, lambda tally: None).run(waiting)


NAMES = [f"run {place}" for place in range(50)]


@pytest.mark.parametrize(("workers", "most"), [(None, 8), (3, 3)])
def test_no_more_than_a_few_stacks_for_each_cpu_are_in_flight(
    ray: Callable[..., ScriptedRay], workers: int | None, most: int
) -> None:
    scripted = ray(lambda name: DONE)
    assert run(*stacks(*NAMES), workers=workers).done == 50
    assert scripted.handed == NAMES
    assert scripted.most == most


def test_tasks_take_a_gpu_where_there_is_one_unless_their_runs_want_none(ray: Callable[..., ScriptedRay]) -> None:
    for accelerator, resources, on_gpu in (("auto", {"CPU": 2, "GPU": 1}, True), ("cpu", {"CPU": 2, "GPU": 1}, False),
                                           ("auto", {"CPU": 2}, False)):  # fmt: skip
        scripted = ray(lambda name: DONE, **resources)
        run(*stacks("a", accelerator=accelerator))
        assert scripted.on_gpu == [on_gpu]


def test_a_stack_that_is_lost_again_and_again_is_recorded_as_failed(ray: Callable[..., ScriptedRay]) -> None:
    def come_to(name: str) -> dict[str, Any]:
        if name == "b":
            raise RayError("its node died")
        return DONE

    scripted = ray(come_to)
    tally = run(*stacks("a", "b", "c"))
    assert (tally.done, tally.failed) == (3, 1)
    assert sorted(scripted.handed) == ["a", "b", "b", "b", "c"]
    assert [again for name, again in zip(scripted.handed, scripted.again, strict=True) if name == "b"] == [0, 1, 1]
    result = json.loads(Path("lightning_logs/e/b/result.json").read_text())
    assert result["status"] == "failed"
    assert result["error"].endswith("the last by its node died")
    assert not Path("lightning_logs/e/a").exists()


def test_a_worker_that_somebody_stops_is_a_lost_one(ray: Callable[..., ScriptedRay]) -> None:
    outcomes = iter([asdict(Tally(stopped=15)), DONE])
    scripted = ray(lambda name: next(outcomes))
    assert run(*stacks("a")).done == 1
    assert scripted.handed == ["a", "a"]


def test_nothing_more_is_handed_out_when_the_disk_is_full(ray: Callable[..., ScriptedRay]) -> None:
    scripted = ray(lambda name: asdict(Tally(full="No space left")))
    assert run(*stacks(*NAMES)).full == "No space left"
    assert len(scripted.handed) == 8


def test_a_node_without_the_storage_and_a_lost_cluster_end_the_sweep(ray: Callable[..., ScriptedRay]) -> None:
    ray(lambda name: {"unseen": "node n7 does not see '/data/sweep.json'"})
    with pytest.raises(UserError, match=r"node n7 does not see '/data/sweep.json'.*--root"):
        run(*stacks("a"))

    def gone(name: str) -> dict[str, Any]:
        raise LocalRayletDiedError("The raylet died.")

    ray(gone)
    with pytest.raises(ConnectionError, match="cluster is gone"):
        run(*stacks("a", "b"))
    assert not Path("lightning_logs").exists(), "a run was recorded as failed"


def test_a_task_looks_for_the_sweep_s_own_file_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("grok_lightning.sweep.run.cluster.PATIENCE", 0.0)
    (make,) = stacks("a")
    outcome = train_on_node(Stack(str(tmp_path), "e", make().configs, ["0"]), str(tmp_path), False)
    assert list(outcome) == ["unseen"]
    assert f"{tmp_path}/lightning_logs/e/.sweep/sweep.json" in outcome["unseen"]
    assert not list(tmp_path.iterdir())


def test_a_task_on_another_node_of_a_slurm_job_is_no_rank_of_its_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    seen = []
    monkeypatch.setattr(
        "grok_lightning.sweep.run.cluster.run_job",
        lambda job: seen.append((rank_zero_only.rank, os.environ.get("SLURM_PROCID"))) or DONE,
    )
    (make,) = stacks("a")
    owner = tmp_path / "lightning_logs/e/.sweep/sweep.json"
    owner.parent.mkdir(parents=True)
    owner.touch()
    assert train_on_node(make(), str(tmp_path), False) == DONE
    assert seen == [(0, None)]


def test_without_ray_nothing_is_begun(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    Path("s.yaml").write_text(yaml.safe_dump({"base": "addition", "grid": {"seed_everything": [0]}}))
    status, out, errors = command("sweep", "s.yaml", "--executor", "ray")
    assert (status, out, len(errors.splitlines())) == (2, "", 1)
    assert "pip install 'grok_lightning[ray]'" in errors
    assert [path.name for path in Path().iterdir()] == ["s.yaml"]


@pytest.mark.parametrize("address", ["ray://head:10001", "local", "head"])
def test_an_address_that_is_none_is_refused(
    ray: Callable[..., ScriptedRay], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    ray(lambda name: DONE)
    monkeypatch.setattr(ScriptedRay, "is_initialized", lambda self: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"RAY_ADDRESS is .*HOST:PORT"):
        connect()
