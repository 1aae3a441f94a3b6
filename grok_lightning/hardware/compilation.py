"""Whether torch.compile pays: what compiling takes on this machine against what it saves in the steps to come."""

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

Kind = Literal["cold", "warm"]
SAVED = (
    0.3  # share of an eager step of a transformer that compiling saves: a fifth with one layer, up to a half with two
)
MARGIN = 1.5  # runs often end before their budget
COLD_SECONDS, LAYER_SECONDS = 14.0, 8.0  # compiling a transformer without caches: at all, and for each layer
WARM_SHARE = 0.2  # of that, where torch's caches hold the graph
WORTH_COMPILING = 1000  # the fewest steps to come for which the smaller stack left by runs that end is compiled anew


@dataclass(frozen=True)
class Graph:
    """What the time of a compilation depends on.

    Attributes:
        network: The network's class.
        layers: Its number of layers.
        device: cpu, cuda or mps.
        precision: As the Trainer names it.
        noisy: Whether weights get noise, which makes a compilation several times as long.
    """

    network: str
    layers: int
    device: str
    precision: str
    noisy: bool = False

    @property
    def key(self) -> str:
        """A text that is the same for equal graphs of one version of torch."""
        noise = " noise" if self.noisy else ""
        return f"{self.network} {self.layers} {self.device} {self.precision}{noise} torch {torch.__version__}"


def share_caches() -> None:
    """Makes torch's caches of compiled graphs on disk complete, and safe to share between machines.

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
    """What compiled code depends on besides its graph: the CPU's vector instructions and the number of threads."""
    own = os.environ.get("TORCH_COMPILE_CACHE_KEY_TAG", "")
    return f"{own} {platform.machine()} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}".strip()


def prepare() -> None:
    """Does what a process's first compilation does before it looks into the caches: imports, and tests of the CPU."""
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    import_module("torch._inductor.compile_fx")
    pick_vec_isa()


def can_compile(device: str) -> bool:
    """Whether torch.compile can work on a type of device: it needs dynamo, and a C++ compiler or Triton."""
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
    """Whether compiling saves clearly more time than it takes.

    Args:
        steps: Training steps to come in each fit, at most.
        step_seconds: Of an eager step.
        seconds: Of the first compilation.
        fits: How many fits train the same graph one after the other.
        warm_seconds: Of the compilation of each further one, from torch's caches.
    """
    saved = fits * steps * SAVED * step_seconds
    return saved >= MARGIN * (seconds + (fits - 1) * warm_seconds)


def compile_seconds(graph: Graph, kind: Kind) -> float:
    """Seconds that compiling a graph takes here: as it was last time, else an estimate from the speed of Python.

    Args:
        graph: The graph.
        kind: cold, or warm where torch's caches hold it.
    """
    remembered = _remembered().get(graph.key, {}).get(kind)
    if remembered is not None:
        return remembered
    cold = (COLD_SECONDS + LAYER_SECONDS * graph.layers) * (3 if graph.noisy else 1) * python_slowness()
    return cold if kind == "cold" else WARM_SHARE * cold


def remember(graph: Graph, kind: Kind, seconds: float) -> None:
    """Keeps what compiling a graph took here; a failure to write is no failure."""
    known = _remembered()
    known.setdefault(graph.key, {})[kind] = round(seconds, 2)
    with suppress(OSError):
        write_durably(_file(), json.dumps(known).encode())


def _remembered() -> dict[str, dict[str, float]]:
    """Seconds of earlier compilations by graph and kind."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {
            str(key): {str(kind): float(seconds) for kind, seconds in kinds.items()} for key, kinds in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or damaged
        return {}


def _file() -> Path:
    """The file beside torch's own caches."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return Path(cache_dir()) / "grok_lightning.json"
