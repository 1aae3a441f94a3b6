"""Every shipped config goes through the real command."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from grok_lightning.options.arguments import shipped_configs, shipped_sweeps

SHIPPED, SWEEPS = shipped_configs(), shipped_sweeps()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_fits(command: Callable[..., tuple[int, str, str]], name: str) -> None:
    short = ["--trainer.max_steps", "3", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    seldom = ["--evaluation.per_decade", "0", "--evaluation.every", "3"]
    status, _, err = command("fit", "--config", name, *short, *seldom)
    assert (status, err) == (0, "")
    assert Path(f"lightning_logs/{name}/0/result.json").exists()


def test_a_shipped_config_says_what_it_is_and_how_to_run_it() -> None:
    for name, path in SHIPPED.items():
        lines = path.read_text().splitlines()
        header = "\n".join(line for line in lines if line.startswith("#"))
        assert f"grok-lightning fit --config {name}" in header
        assert len(lines) <= 40, name


def test_configs_are_listed(command: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = command("configs")
    assert status == 0
    fits, sweeps = out.split("\n\n")
    assert [line.split()[0] for line in fits.splitlines()] == list(SHIPPED)
    assert [line.split()[0] for line in sweeps.splitlines()[1:]] == list(SWEEPS)


@pytest.mark.parametrize(
    "name",
    ["addition-seeds", *(pytest.param(name, marks=pytest.mark.slow) for name in SWEEPS if name != "addition-seeds")],
)
def test_a_shipped_sweep_can_be_planned(command: Callable[..., tuple[int, str, str]], name: str) -> None:
    Path("checkpoints").symlink_to(Path(__file__).parents[2] / "checkpoints")  # one begins with a shipped model
    status, out, err = command("sweep", name, "--dry-run")
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: ")
    assert not Path("lightning_logs").exists()
    assert f"grok-lightning sweep {name}\n" in SWEEPS[name].read_text()


@pytest.mark.slow
def test_a_built_package_carries_the_configs(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*build, str(project)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    listed = subprocess.run([sys.executable, "-m", "zipfile", "-l", str(wheel)], capture_output=True, text=True)
    for name in [*SHIPPED, *(f"sweeps/{name}" for name in SWEEPS)]:
        assert f"grok_lightning/configs/{name}.yaml" in listed.stdout
