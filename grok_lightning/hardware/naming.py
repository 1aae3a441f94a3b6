"""Names of the devices that runs are trained on."""

import platform
import re
from functools import cache
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")  # of Linux, where the platform module knows the architecture alone


def name_device(device: torch.device) -> str:
    """Names a device for records: ``NVIDIA H200``, ``AMD EPYC 9V74 80-Core Processor (AVX512), 1 thread``.

    Of a CPU with the vector instructions that torch uses, and the threads of this process: speed depends on both.

    Args:
        device: Where tensors lie.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{platform.machine()} {device.type}"
    threads = torch.get_num_threads()
    return f"{_name_cpu()} ({torch.backends.cpu.get_cpu_capability()}), {threads} thread{'s' * (threads != 1)}"


@cache
def _name_cpu() -> str:
    """The CPU's name, and its architecture where that is not known."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name[ \t]*:[ \t]*(\S.*)$", text, re.MULTILINE)
    named = found[1] if found else platform.processor() or platform.machine()
    return " ".join(named.replace("(R)", "").replace("(TM)", "").split())
