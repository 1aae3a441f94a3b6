"""Whether torch.compile saves time: compilation time on this machine against the time saved in training steps."""

import json
import os
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch

from grok_lightning.files import write_durably
from grok_lightning.hardware.products import python_slowness
from grok_lightning.reading import read_json

Kind = Literal["cold", "warm"]
SAVED = 0.3  # share of an eager step of a transformer that compiling saves: 0.2 with one layer, up to 0.5 with two
MARGIN = 1.5  # runs often end before their budget
COLD_SECONDS, LAYER_SECONDS = 14.0, 8.0  # compiling a transformer without caches: at all, and for each layer
WARM_SHARE = 0.2  # of that, where torch's caches hold the graph
WORTH_COMPILING = 1000  # the fewest steps to come for which the smaller stack left by runs that end is compiled anew


@dataclass(frozen=True)
class Graph:
    """Properties of a model that determine its compilation time.

    Attributes:
        network: Class of the network.
        layers: Number of layers.
        device: cpu, cuda or mps.
        precision: Precision of the Trainer.
        noisy: Whether weights get noise, which makes compilation several times as slow.
    """

    network: str
    layers: int
    device: str
    precision: str
    noisy: bool = False

    @property
    def key(self) -> str:
        """Text that is the same for equal graphs and versions of torch."""
        noise = " noise" if self.noisy else ""
        return f"{self.network} {self.layers} {self.device} {self.precision}{noise} torch {torch.__version__}"


def share_caches() -> None:
    """Make torch's on-disk caches of compiled graphs complete, and safe to share between machines.

    Graphs with custom autograd functions are cached too; the gradients are part of the key. Torch leaves out of the key
    what kind of vectors the generated C++ code is written for, and the number of threads it splits its loops over. A
    graph from a CPU with AVX-512, loaded on one with AVX2, then computes wrong numbers without an error (torch 2.13).
    Hence both become part of the key.
    """
    import torch._functorch.config as config

    with suppress(AttributeError):  # an option of newer versions; without it a second process takes some seconds more
        config.autograd_cache_allow_custom_autograd_functions = True
    torch.compiler.config.cache_key_tag = cache_tag()


def cache_tag() -> str:
    """Tag of what compiled code depends on besides its graph: the CPU's vector instructions and the threads."""
    own = os.environ.get("TORCH_COMPILE_CACHE_KEY_TAG", "")
    return f"{own} {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}".strip()


def prepare() -> None:
    """Prepare a process's first compilation: imports, and tests of the CPU."""
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    import_module("torch._inductor.compile_fx")
    pick_vec_isa()


def can_compile(device: str) -> bool:
    """Whether torch.compile works on a device type: it needs dynamo, and a C++ compiler or Triton."""
    from torch._dynamo import is_dynamo_supported
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch.utils._triton import has_triton

    if device not in ("cpu", "cuda") or not is_dynamo_supported():
        return False
    if device == "cuda":
        return bool(has_triton())
    try:
        return shutil.which(get_cpp_compiler()) is not None
    except (RuntimeError, OSError):  # none was found, or it does not run
        return False


def is_worth(steps: int, step_seconds: float, seconds: float, fits: int = 1, warm_seconds: float = 0.0) -> bool:
    """Whether compilation saves clearly more time than it takes.

    Args:
        steps: Largest number of training steps of each fit.
        step_seconds: Seconds of an eager step.
        seconds: Seconds of the first compilation.
        fits: Number of fits that train the same graph one after another.
        warm_seconds: Seconds of each further compilation, from torch's caches.
    """
    saved = fits * steps * SAVED * step_seconds
    return saved >= MARGIN * (seconds + (fits - 1) * warm_seconds)


def compile_seconds(graph: Graph, kind: Kind) -> float:
    """Seconds of a compilation on this machine: as measured last time, else estimated from the speed of Python.

    Args:
        graph: Graph.
        kind: cold, or warm if torch's caches hold the graph.
    """
    remembered = _read_remembered().get(graph.key, {}).get(kind)
    if remembered is not None:
        return remembered
    cold = (COLD_SECONDS + LAYER_SECONDS * graph.layers) * (3 if graph.noisy else 1) * python_slowness()
    return cold if kind == "cold" else WARM_SHARE * cold


def remember(graph: Graph, kind: Kind, seconds: float) -> None:
    """Record the seconds of a compilation; does nothing if the file cannot be written."""
    known = _read_remembered()
    known.setdefault(graph.key, {})[kind] = round(seconds, 2)
    with suppress(OSError):
        write_durably(_file(), json.dumps(known).encode())


def _read_remembered() -> dict[str, dict[str, float]]:
    """Read the seconds of earlier compilations, by graph and kind."""
    try:
        found = read_json(_file())
        return {
            str(key): {str(kind): float(seconds) for kind, seconds in kinds.items()} for key, kinds in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):  # none yet, or damaged
        return {}


def _file() -> Path:
    """Path of the file, next to torch's caches."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir()) / "grok_lightning.json"
