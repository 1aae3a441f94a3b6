"""Freed memory stays in the process where there is a glibc."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from grok_lightning.hardware.process import keep_freed_memory
import numpy as np
kept = {keep} and keep_freed_memory()
np.ones(2**21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**21)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_memory_that_is_taken_again_costs_no_page_faults() -> None:
    faults = {}
    for keep in (False, True):
        # 16 MiB at a time, above glibc's largest threshold of its own only at the start
        ran = subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True, text=True)
        kept, count = ran.stdout.split()
        assert kept == str(keep)
        faults[keep] = int(count)
    assert faults[True] <= faults[False]
    assert faults[True] < 100
