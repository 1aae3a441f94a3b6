"""What devices are called in records."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from grok_lightning.hardware import naming
from grok_lightning.hardware.products import threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """The name is looked up once."""
    naming._name_cpu.cache_clear()
    yield
    naming._name_cpu.cache_clear()


def test_a_cpu_has_its_name_its_instructions_and_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Intel(R)  Core(TM) i7\nflags\t: avx\n\nmodel name\t: other\n")
    monkeypatch.setattr(naming, "CPUINFO", told)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with threads(2):
        assert naming.name_device(CPU) == "Intel Core i7 (AVX2), 2 threads"
    with threads(1):
        assert naming.name_device(CPU) == "Intel Core i7 (AVX2), 1 thread"


@pytest.mark.parametrize("content", [None, "Processor: ARM\n", "model name\t:  \nflags\t: avx\n"])
def test_a_cpu_without_a_name_has_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    told = tmp_path / "cpuinfo"
    if content is not None:
        told.write_text(content)
    monkeypatch.setattr(naming, "CPUINFO", told)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert naming.name_device(CPU).startswith("aarch64 (")


def test_other_devices_are_named() -> None:
    assert naming.name_device(torch.device("mps")) == f"{platform.machine()} mps"
