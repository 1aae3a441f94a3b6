"""Muon for a stack: orthogonalized momentum on hidden matrices, AdamW on everything else."""

from fnmatch import fnmatchcase

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from grok_lightning.errors import UserError, show
from grok_lightning.optim.adamw import adamw_step, check_betas
from grok_lightning.optim.base import (
    OF_MODULES,
    StackOptimizer,
    check_range,
    collect_gradients,
    parameter_names,
    spread,
)
from grok_lightning.optim.parts import Setting, choose_settings, split_by_setting

HIDDEN_MATRICES = (
    "layers.*.attention.*.weight",
    "layers.*.feedforward.*.weight",
    "feedforward.[0-9].weight",  # an MLP's, save the first one of one-hot tokens, which is an embedding of theirs
    "feedforward.[0-9][0-9].weight",
    "recurrent.*.weight",
)
QUINTIC = (3.4445, -4.7750, 2.0315)
CACHED_NUMBERS = 2**17


def orthogonalize(matrices_MNK: Tensor, steps: int) -> Tensor:
    """Brings the singular values of matrices near 1, each matrix on its own, by Newton and Schulz's iteration.

    X <- X / (|X| + 1e-7), then X <- a X + (b A + c A^2) X with A = X X^T, ``steps`` times. After five steps a
    singular value that was at least 0.002 times the norm lies between 0.68 and 1.21; the smallest grow 485-fold.

    Source: K. Jordan, https://kellerjordan.github.io/posts/muon/. What differs: it stays in the matrices' own type
    instead of bfloat16.

    Args:
        matrices_MNK: Any number of matrices, with N at most K: the work grows with N^2 K.
        steps: Iterations.

    Returns:
        As many matrices of the same shape.
    """
    if matrices_MNK.device.type != "cpu":
        return _iterate(matrices_MNK, steps)
    # in pieces that stay in a core's cache: 103 ms instead of 148 for 128 matrices of 128 x 128
    pieces = matrices_MNK.split(max(1, CACHED_NUMBERS // matrices_MNK[0].numel()))
    return torch.cat([_iterate(piece, steps) for piece in pieces])


def _iterate(matrices_MNK: Tensor, steps: int) -> Tensor:
    a, b, c = QUINTIC
    x = matrices_MNK / (torch.linalg.matrix_norm(matrices_MNK, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(StackOptimizer):
    """Muon on the hidden matrices of a stack of runs, AdamW on embeddings, head, gains and biases.

    A matrix that a model keeps in one piece counts as one, such as that of an LSTM's four gates.

    Args:
        params: Pairs (name, parameter) that lead with R; without names they are called 0, 1, ...
        lr: Learning rate of the matrices. One number, or one for each run.
        momentum: Decay rate of the gradient's running mean. One number, or one for each run.
        weight_decay: Decoupled weight decay of the matrices. None in the source; one number, or one for each run.
        nesterov: Use Nesterov momentum.
        steps: Newton-Schulz iterations of each update. They make it orthogonal.
        matrices: Name patterns of the matrices that Muon updates. Such as "layers.*.weight"; default: the hidden
            matrices of any of the models here; of an ordinary module, those of torch's layers in it.
        adamw_lr: Learning rate of the other parameters. One number, or one for each run.
        adamw_weight_decay: Weight decay of the other parameters. Decoupled, toward zero; one number, or one for each
            run.
        adamw_betas: Decay rates of their gradient's two moments. Of the other parameters: running mean and square.
        adamw_eps: Added to the root of the second moment.
        embedding_lr: Learning rate of the embeddings. Default: adamw_lr.
        head_lr: Learning rate of the head's matrix. Default: adamw_lr.
        vector_lr: Learning rate of biases and norms. Default: adamw_lr.
        embedding_weight_decay: Weight decay of the embeddings. Default: adamw_weight_decay.
        head_weight_decay: Weight decay of the head's matrix. Default: adamw_weight_decay.
        vector_weight_decay: Weight decay of biases and norms. Default: adamw_weight_decay.

    Raises:
        UserError: If a number is out of range, the network has no part of which an option is given, or a pattern
            matches no parameter or one that is no matrix.
    """

    capturable = True

    def __init__(
        self,
        params: ParamsT,
        lr: float | list[float] = 0.02,
        momentum: float | list[float] = 0.95,
        weight_decay: float | list[float] = 0.0,
        nesterov: bool = True,
        steps: int = 5,
        matrices: list[str] | None = None,
        adamw_lr: float | list[float] = 1e-3,
        adamw_weight_decay: float | list[float] = 1.0,
        adamw_betas: tuple[float, float] = (0.9, 0.98),
        adamw_eps: float = 1e-8,
        embedding_lr: float | list[float] | None = None,
        head_lr: float | list[float] | None = None,
        vector_lr: float | list[float] | None = None,
        embedding_weight_decay: float | list[float] | None = None,
        head_weight_decay: float | list[float] | None = None,
        vector_weight_decay: float | list[float] | None = None,
    ) -> None:
        super().__init__(params)
        self.lr_R = self.hyperparameter("lr", lr)
        self.momentum_R = self.hyperparameter("momentum", momentum, 1, below=True)
        self.weight_decay_R = self.hyperparameter("weight_decay", weight_decay)
        check_range("model.optimizer.steps", steps, least=1)
        self.nesterov, self.steps = nesterov, steps
        self.adamw_lr_R = self.hyperparameter("adamw_lr", adamw_lr)
        self.adamw_weight_decay_R = self.hyperparameter("adamw_weight_decay", adamw_weight_decay)
        self.adamw_betas = check_betas("model.optimizer.adamw_betas", adamw_betas)
        check_range("model.optimizer.adamw_eps", adamw_eps, above=True)
        self.adamw_eps = adamw_eps
        shapes = {
            name: tuple(weight.shape[1:])
            for group in self.param_groups
            for name, weight in zip(parameter_names(group), group["params"], strict=True)
        }
        told = matrices is None and all(name.startswith(OF_MODULES) for name in shapes)  # by ``hidden``, later
        self.matrices = set() if told else choose_matrices(shapes, matrices)
        self._common: Setting = (self.adamw_lr_R, self.adamw_weight_decay_R)
        self._settings = choose_settings(self, self._common, {
            "embedding": (embedding_lr, embedding_weight_decay),
            "head": (head_lr, head_weight_decay),
            "vector": (vector_lr, vector_weight_decay),
        }, self.matrices)  # fmt: skip

    def update(self, weights: dict[str, Tensor], factor: float | Tensor) -> None:
        chosen = self.matrices or self.hidden
        if not chosen:
            choose_matrices({name: tuple(weight.shape[1:]) for name, weight in weights.items()}, None)  # which refuses
        own = {name: weight for name, weight in weights.items() if name in chosen}
        others = {name: weight for name, weight in weights.items() if name not in chosen}
        if own:
            self._update_matrices(own, factor)
        for (rates_R, decays_R), part in split_by_setting(others, self._common, self._settings):
            adamw_step(self, list(part.values()), rates_R, decays_R, self.adamw_betas, self.adamw_eps, factor=factor)

    def _update_matrices(self, named: dict[str, Tensor], factor: float | Tensor) -> None:
        """One step of Muon in place, on matrices w (R, in, out) with gradients g and running means m.

        Those of ordinary modules are (R, out, in).

        m <- b m + (1 - b) g;  u <- (1 - b) g + b m, or m without Nesterov's momentum;
        w <- (1 - lr wd) w - lr sqrt(max(1, out / in)) orthogonalize(u)

        Source: K. Jordan, https://github.com/KellerJordan/Muon, where weights are (out, in). What differs besides: each
        run has its own numbers, and matrices of one shape, transposed or not, are made orthogonal together.
        """
        weights = list(named.values())
        wide = {weight for name, weight in named.items() if name.startswith(OF_MODULES)}
        options = (self.lr_R, self.weight_decay_R, self.momentum_R)
        rates_R, decays_R, momenta_R = (self.numbers(numbers_R, weights[0]) for numbers_R in options)
        rates_R = rates_R * factor
        old, new, rates, kept = (
            spread(numbers, weights[0]) for numbers in (momenta_R, 1 - momenta_R, rates_R, 1 - rates_R * decays_R)
        )
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for weight, gradient in zip(weights, collect_gradients(weights), strict=True):
            if not self.state[weight]:
                self.state[weight]["mean"] = torch.zeros_like(weight)
            mean = self.state[weight]["mean"].lerp_(gradient, new)
            update = gradient.lerp(mean, old) if self.nesterov else mean
            update = update.mT if weight.shape[1] > weight.shape[2] else update
            alike.setdefault(update.shape, []).append((weight, update))
        for pairs in alike.values():
            directions = orthogonalize(torch.cat([update for _, update in pairs]), self.steps).chunk(len(pairs))
            for (weight, _), direction in zip(pairs, directions, strict=True):
                inputs, outputs = weight.shape[1:]
                direction = direction.mT if inputs > outputs else direction
                inputs, outputs = (outputs, inputs) if weight in wide else (inputs, outputs)
                weight.mul_(kept).addcmul_(direction, rates, value=-(max(1, outputs / inputs) ** 0.5))


def choose_matrices(shapes: dict[str, tuple[int, ...]], patterns: list[str] | None) -> set[str]:
    """The names that patterns choose.

    Args:
        shapes: Each run's shape of every parameter, by name; a bias or gain is (1, D).
        patterns: As the shell's; None for those of hidden matrices.

    Raises:
        UserError: If a pattern matches nothing, or something that is no matrix.
    """
    option = "model.optimizer.matrices"
    known = ", ".join([name for name, shape in shapes.items() if len(shape) == 2 and shape[0] > 1][:4])
    chosen = set()
    for pattern in HIDDEN_MATRICES if patterns is None else patterns:
        found = [name for name in shapes if fnmatchcase(name, pattern)]
        if not found and patterns is not None:
            raise UserError(
                f"{option} has the pattern {show(pattern)}, which matches no parameter; there are {known}, ..."
            )
        for name in found:
            if len(shapes[name]) != 2 or shapes[name][0] == 1:
                if patterns is None:  # a width of 1
                    continue
                raise UserError(
                    f"{option} has the pattern {show(pattern)}, which matches {name}, and that is no matrix"
                )
            chosen.add(name)
    if not chosen:
        raise UserError(f"{option} matches no parameter of this network; name its hidden matrices among {known}, ...")
    return chosen
