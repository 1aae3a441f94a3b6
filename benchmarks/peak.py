"""Peak memory of a process."""

import math
import sys
from importlib.util import find_spec


def peak_gib() -> float:
    """The most memory that this process has had so far, in GiB; NaN on Windows."""
    if find_spec("resource") is None:
        return math.nan
    import resource  # not at the top, for Windows has none

    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
