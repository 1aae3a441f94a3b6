"""Layers whose weights lead with R: R independent runs computed at once.

Every layer draws its initial weights run by run, as a pure function of (the run's seed, the parameter's name), so a run
starts alike whatever stack it is in.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grok_lightning.batch import Draw
from grok_lightning.randomness import derive_keys, mix, normal, uniform


def on_cpu(x: Tensor) -> bool:
    """Whether a tensor is on a CPU, where a small model's step costs what its products cost.

    Elsewhere it costs what launching its operations costs: there fewer of them count, not fewer numbers.
    """
    return x.is_cpu


class StackedLayer(nn.Module, ABC):
    """A layer with random numbers of its own."""

    @abstractmethod
    def reset(self, seeds: Sequence[int], name: str) -> None:
        """Sets the layer's weights (and noise keys), a pure function of each run's seed and the layer's name."""


@torch.no_grad()
def _fill(parameter: nn.Parameter, std: float, seeds: Sequence[int], name: str) -> None:
    for run, seed in enumerate(seeds):
        parameter[run] = std * normal(parameter.shape[1:], seed, "initial weights", name)


@torch.no_grad()
def _fill_uniformly(parameter: nn.Parameter, std: float, seeds: Sequence[int], name: str) -> None:
    counter = torch.arange(parameter[0].numel())
    between_0_and_1 = uniform(derive_keys(seeds, "initial weights", name)[:, None], counter)
    parameter.copy_(std * 3**0.5 * (2 * between_0_and_1 - 1).view(parameter.shape))


class Linear(StackedLayer):
    """``y = x W + b`` with weights (R, in, out): normal of standard deviation ``std``, bias (R, 1, out) zero.

    Where ``uniformly`` is true, weights and biases are uniform around zero instead, of that standard deviation; with
    ``std = (3 * inputs) ** -0.5`` they are within 1 / sqrt(inputs), as those of ``torch.nn.Linear``. With
    ``uniform_bias`` false biases are zero then too.
    """

    def __init__(
        self,
        runs: int,
        inputs: int,
        outputs: int,
        bias: bool,
        std: float,
        uniformly: bool = False,
        uniform_bias: bool = True,
    ) -> None:
        super().__init__()
        self.std, self.uniformly, self.uniform_bias = std, uniformly, uniform_bias
        self.weight = nn.Parameter(torch.empty(runs, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(runs, 1, outputs)) if bias else None

    def reset(self, seeds: Sequence[int], name: str) -> None:
        if self.uniformly:
            _fill_uniformly(self.weight, self.std, seeds, f"{name}.weight")
            if self.bias is not None and self.uniform_bias:
                _fill_uniformly(self.bias, self.std, seeds, f"{name}.bias")
        else:
            _fill(self.weight, self.std, seeds, f"{name}.weight")

    def limit(self, outputs: int) -> None:
        """Leaves only the first outputs; to be called before ``reset``."""
        self.weight = nn.Parameter(self.weight.detach()[..., :outputs].clone())
        self.bias = None if self.bias is None else nn.Parameter(self.bias.detach()[..., :outputs].clone())

    def forward(self, x: Tensor) -> Tensor:
        """Maps (R, ..., in) to (R, ..., out)."""
        rows = x.flatten(1, -2)
        out = torch.bmm(rows, self.weight) if self.bias is None else torch.baddbmm(self.bias, rows, self.weight)
        return out.unflatten(1, x.shape[1:-1])


def ordinary_forms(network: nn.Module) -> tuple[set[str], set[str]]:
    """Parameters that torch's own layers hold otherwise, by name.

    Returns:
        Those of matrices (R, in, out), which torch has as (out, in); and those of biases and gains (R, 1, D).
    """
    maps, vectors = set(), set()
    for name, layer in network.named_modules():
        if isinstance(layer, StackedLayer | LayerNorm | RMSNorm):
            maps |= {f"{name}.weight"} if isinstance(layer, Linear) else set()
            own = layer.named_parameters(recurse=False)
            vectors |= {f"{name}.{key}" for key, weight in own if key in ("bias", "gain") and weight.shape[1:2] == (1,)}
    return maps, vectors


@dataclass(frozen=True)
class LinearMaps:
    """Builds the linear maps of a stack.

    Weights are normal with standard deviation ``scale / sqrt(n)`` and biases zero; or, where ``initialization`` is
    ``torch`` or ``multihead``, both are uniform within plus and minus ``scale / sqrt(n)``.

    Attributes:
        runs: R.
        initialization: ``torch`` or ``multihead`` for uniform numbers; anything else for normal ones.
        scale: Factor on all initial weights.
        fan_in: n; None for the number of inputs of each map.
    """

    runs: int
    initialization: str
    scale: float
    fan_in: int | None = None

    def __call__(self, inputs: int, outputs: int, bias: bool = True, scale: float = 1.0) -> Linear:
        """A map of ``inputs`` to ``outputs`` numbers, whose initial weights are multiplied by a further ``scale``."""
        uniformly = self.initialization in ("torch", "multihead")
        fan_in = inputs if self.fan_in is None else self.fan_in
        std = self.scale * scale * (3 * fan_in if uniformly else fan_in) ** -0.5  # uniform on +-a: std is a / sqrt(3)
        return Linear(self.runs, inputs, outputs, bias, std, uniformly)

    def attention(self, width: int, bias: bool, scale: float) -> list[Linear]:
        """The maps of an attention layer: query, key, value and output, whose initial weights have a further ``scale``.

        With ``multihead`` they begin as those of ``torch.nn.MultiheadAttention``: queries, keys and values are one
        matrix (3 D, D) there, whose Xavier-uniform bound is sqrt(6 / (D + 3 D)); the output map is that of a
        ``torch.nn.Linear``; biases are zero.
        """
        if self.initialization != "multihead":
            return [self(width, width, bias, own) for own in (1.0, 1.0, 1.0, scale)]
        limits = [(1.5 / width) ** 0.5] * 3 + [scale * width**-0.5]
        return [
            Linear(self.runs, width, width, bias, self.scale * limit * 3**-0.5, True, uniform_bias=False)
            for limit in limits
        ]


def _select_rows(table_RVD: Tensor, index_RN: Tensor) -> Tensor:
    runs = torch.arange(table_RVD.shape[0], device=index_RN.device)[:, None]
    return table_RVD[runs, index_RN]


def _sum_rows(rows_RND: Tensor, index_RN: Tensor, count: int) -> Tensor:
    """The sum of the rows of each index below ``count``, added in a fixed order on every device: (R, count, D)."""
    if not on_cpu(rows_RND):
        chosen_RVN = index_RN[:, None, :] == torch.arange(count, device=index_RN.device)[:, None]
        return torch.bmm(chosen_RVN.to(rows_RND.dtype), rows_RND)
    runs = len(rows_RND)  # 40 us instead of 280 for 512 rows of 256 bf16 numbers and 97 indices
    numbers = torch.arange(runs * count, device=rows_RND.device)
    sorted_index, order = torch.sort((index_RN + numbers[::count, None]).flatten(), stable=True)
    starts = torch.searchsorted(sorted_index, numbers)
    sums = nn.functional.embedding_bag(order, rows_RND.flatten(0, 1), starts, mode="sum")
    return sums.unflatten(0, (runs, count))


class _CompiledGather(torch.autograd.Function):
    """``_Gather`` with a first derivative only: torch.compile takes no function with a rule for ``jvp`` or ``vmap``."""

    @staticmethod
    def forward(ctx: Any, table_RVD: Tensor, index_RN: Tensor) -> Tensor:
        ctx.save_for_backward(index_RN)
        ctx.rows = table_RVD.shape[1]
        return _select_rows(table_RVD, index_RN)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sum_rows(gradients[0], ctx.saved_tensors[0], ctx.rows), None


class _Gather(torch.autograd.Function):
    """Rows of a (R, V, D) table, with a gradient that adds in a fixed order on every device.

    Torch's own gradient of a gather adds atomically when compiled (and on a GPU), so two runs of it may differ. This
    map and ``_SumRows`` are linear and each other's gradient, so all derivatives exist; to ``vmap`` over one is to have
    more runs.
    """

    @staticmethod
    def forward(table_RVD: Tensor, index_RN: Tensor) -> Tensor:
        return _select_rows(table_RVD, index_RN)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        table_RVD, index_RN = inputs
        ctx.save_for_backward(index_RN)
        ctx.save_for_forward(index_RN)
        ctx.rows = table_RVD.shape[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _SumRows.apply(gradients[0], ctx.saved_tensors[0], ctx.rows), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        out: Tensor = _Gather.apply(tangents[0], ctx.saved_tensors[0])
        return out

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *parts: Tensor) -> tuple[Tensor, int]:
        table, index = _put_in_front(info.batch_size, in_dims, parts)
        return _Gather.apply(table.flatten(0, 1), index.flatten(0, 1)).unflatten(0, table.shape[:2]), 0


class _SumRows(torch.autograd.Function):
    """``_sum_rows``, the gradient of ``_Gather``."""

    @staticmethod
    def forward(rows_RND: Tensor, index_RN: Tensor, count: int) -> Tensor:
        return _sum_rows(rows_RND, index_RN, count)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        _, index_RN, ctx.count = inputs
        ctx.save_for_backward(index_RN)
        ctx.save_for_forward(index_RN)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Gather.apply(gradients[0], ctx.saved_tensors[0]), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        out: Tensor = _SumRows.apply(tangents[0], ctx.saved_tensors[0], ctx.count)
        return out

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *parts: Any) -> tuple[Tensor, int]:
        rows, index = _put_in_front(info.batch_size, in_dims, parts[:2])
        return _SumRows.apply(rows.flatten(0, 1), index.flatten(0, 1), parts[2]).unflatten(0, rows.shape[:2]), 0


def _put_in_front(size: int, dims: Sequence[int | None], parts: Sequence[Tensor]) -> list[Tensor]:
    """Tensors with the mapped dimension first, (size, ...)."""
    return [
        part.expand(size, *part.shape) if dim is None else part.movedim(dim, 0)
        for part, dim in zip(parts, dims, strict=False)
    ]


def gather(table_RVD: Tensor, index_RN: Tensor) -> Tensor:
    """Rows of each run's table, (R, N, D), with a gradient that adds in a fixed order."""
    rows: Tensor
    if torch.compiler.is_compiling():
        rows = _CompiledGather.apply(table_RVD, index_RN)
        return rows
    if on_cpu(table_RVD):
        rows = _Gather.apply(table_RVD, index_RN)
        return rows
    # eagerly on a GPU, where every operation is a launch, torch's own: it sorts, hence a fixed order too
    runs, size = table_RVD.shape[:2]
    if runs > 1:
        index_RN = index_RN + torch.arange(0, runs * size, size, device=index_RN.device)[:, None]
    rows = nn.functional.embedding(index_RN, table_RVD.flatten(0, 1))
    return rows


class Embedding(StackedLayer):
    """A table (R, V, D) of vectors, normal of standard deviation ``std``."""

    def __init__(self, runs: int, vocabulary: int, width: int, std: float) -> None:
        super().__init__()
        self.std = std
        self.weight = nn.Parameter(torch.empty(runs, vocabulary, width))

    def reset(self, seeds: Sequence[int], name: str) -> None:
        _fill(self.weight, self.std, seeds, f"{name}.weight")

    def forward(self, tokens: Tensor) -> Tensor:
        """Looks up (R, ...) tokens: (R, ..., D)."""
        return gather(self.weight, tokens.flatten(1)).unflatten(1, tokens.shape[1:])


class LayerNorm(nn.Module):
    """Layer normalization over the last dimension with gain (R, 1, D) one and bias zero."""

    def __init__(self, runs: int, width: int, bias: bool) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(runs, 1, width))
        self.bias = nn.Parameter(torch.zeros(runs, 1, width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes (R, ..., D)."""
        if len(self.gain) == 1 and not on_cpu(x):  # one launch instead of two, and two instead of six backward
            gain, bias = (None if part is None else part.flatten() for part in (self.gain, self.bias))
            return nn.functional.layer_norm(x, x.shape[-1:], gain, bias)
        rows = nn.functional.layer_norm(x, x.shape[-1:]).flatten(1, -2)
        rows = rows * self.gain if self.bias is None else torch.addcmul(self.bias, rows, self.gain)
        return rows.unflatten(1, x.shape[1:-1])


class RMSNorm(nn.Module):
    """Division by the root mean square of the last dimension, ``x / sqrt(mean(x**2) + 1e-5)``, then gain (R, 1, D) one.

    Zhang and Sennrich, arXiv 1910.07467. It has no bias. The 1e-5 is that of layer norms, where ``torch.nn.RMSNorm``
    defaults to the precision of the numbers' type.
    """

    def __init__(self, runs: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(runs, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes (R, ..., D)."""
        rows = nn.functional.rms_norm(x, x.shape[-1:], eps=1e-5).flatten(1, -2) * self.gain
        return rows.unflatten(1, x.shape[1:-1])


class Dropout(StackedLayer):
    """Zeroes each number with probability ``rate`` and scales the rest by 1 / (1 - rate), only where a Draw is given.

    The mask is a pure function of (the run's seed, the step, this layer, the place in the whole batch).
    """

    keys: Tensor

    def __init__(self, runs: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("keys", torch.zeros(runs, dtype=torch.int64), persistent=False)

    def reset(self, seeds: Sequence[int], name: str) -> None:
        self.keys = derive_keys(seeds, "dropout", name)

    def forward(self, x: Tensor, draw: Draw | None) -> Tensor:
        """Drops out of (R, B, ...)."""
        if draw is None or self.rate == 0:
            return x
        row = x[0, 0].numel()
        counter = torch.arange(x[0].numel(), device=x.device) + draw.first_row * row
        kept = uniform(mix(mix(draw.step) ^ self.keys)[:, None], counter) >= self.rate
        return x * kept.view(x.shape) / (1 - self.rate)
