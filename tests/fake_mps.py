"""An imitation of Apple's GPU: tensors on the device ``mps``, computed on the CPU, that refuse float64 as MPS does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

MPS = torch.device("mps:0")
_ATEN = torch.ops.aten
_INDEXED = (_ATEN.index, _ATEN.index_put, _ATEN.index_put_, _ATEN._index_put_impl_)
_COPIES = (_ATEN.copy_, _ATEN._to_copy)


class MPSTensor(Tensor):
    """A tensor that says it is on ``mps``.

    To torch's own C++ it is on ``meta``, a device that every build of torch can handle.

    Args:
        held: Its numbers, on the CPU.

    Raises:
        TypeError: If they are float64.
    """

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "MPSTensor":
        if held.dtype in (torch.float64, torch.complex128):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device="meta", **layout)

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"MPSTensor({self.held!r})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func == Tensor.device.__get__:
            return MPS
        if func == Tensor.tolist:
            return args[0].held.tolist()
        if func in (Tensor.__getitem__, Tensor.__setitem__):  # torch itself would make tensors of lists on meta
            args = (args[0], _with_tensors(args[1]), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():  # and results stay what they are, unlike in torch's own method
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        with _Computing():
            return func(*args, **(kwargs or {}))


class _Computing(TorchDispatchMode):
    """Computes on the CPU and says that it was ``mps``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = tree_leaves((args, kwargs))
        on_mps = any(isinstance(leaf, MPSTensor) for leaf in given)
        if on_mps and func.overloadpacket not in _COPIES:
            _refuse_others(func, given, tree_leaves(args[1]) if func.overloadpacket in _INDEXED else [])
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
        held_args, held_kwargs = tree_map_only(MPSTensor, lambda tensor: tensor.held, (args, kwargs))
        result = func(*held_args, **held_kwargs)
        onto_cpu = func.overloadpacket is _ATEN.copy_ and not isinstance(args[0], MPSTensor)
        if onto_cpu or not (on_mps if wanted is None else torch.device(wanted).type in ("mps", "meta")):
            return result
        known = {id(leaf.held): leaf for leaf in given if isinstance(leaf, MPSTensor)}  # what was changed in place
        return tree_map_only(Tensor, lambda held: known[id(held)] if id(held) in known else MPSTensor(held), result)


class _Made(TorchFunctionMode):
    """Has ``torch.tensor`` make its tensors on the CPU and move them; it asks no mode about devices."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func not in (torch.tensor, torch.as_tensor) or torch.device(kwargs.get("device") or "cpu").type != "mps":
            return func(*args, **kwargs)
        requires_grad = kwargs.pop("requires_grad", False)
        return func(*args, **kwargs | {"device": "cpu"}).to(MPS).requires_grad_(requires_grad)


@contextmanager
def fake_mps() -> Iterator[None]:
    """While it lasts, there is the device ``mps``.

    Raises:
        TypeError: If an operation gives float64 on ``mps``.
        RuntimeError: If an operation takes tensors on ``mps`` and on the CPU. Those without dimensions may be on the
            CPU, as with every device of torch, and so may indices.
    """
    with _Made(), _Computing():
        yield


def to_mps(module: nn.Module) -> nn.Module:
    """Moves a module, whose parameters become new ones: torch would else keep the Python class of the old ones."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return module.to(MPS)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def _with_tensors(index: Any) -> Any:
    items = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(item) if isinstance(item, list) else item for item in items)


def _refuse_others(func: Any, given: list[Any], indices: list[Any]) -> None:
    free = {id(index) for index in indices}
    for leaf in given:
        if isinstance(leaf, Tensor) and not isinstance(leaf, MPSTensor) and leaf.dim() and id(leaf) not in free:
            raise RuntimeError(f"Expected all tensors to be on the same device, but {func} has mps:0 and cpu")
