"""Orthogonal gradients: the component along the weights, which only scales them, is removed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from grok_lightning.optim.base import check_range
from grok_lightning.optim.filters import GradientFilter


def orthogonal(weights: list[Tensor], gradients: list[Tensor], eps: float) -> list[Tensor]:
    """g' = g - <w, g> / (<w, w> + eps) w, then g' |g| / (|g'| + eps), for each tensor and run.

    Source: Prieto et al., arXiv 2501.04697, and the code published with it. What we changed: each run of a stack has
    its own inner products, and a tensor with one number for each run gives zeros. No direction is orthogonal to it, and
    the rescaling would blow up what rounding leaves of it to the full norm.

    Args:
        weights, gradients: w and g, of shapes (R, ...).
        eps: Keeps weights and gradients of zeros from dividing by zero.

    Returns:
        The new gradients, in the same shapes.
    """
    w, g = ([tensor.reshape(len(tensor), -1) for tensor in tensors] for tensors in (weights, gradients))
    # sums of products, not matrix products: those may be rounded to TF32 or bfloat16
    products = [product.sum(1, keepdim=True) for product in torch._foreach_mul(w, g)]
    squares = [square.sum(1, keepdim=True) for square in torch._foreach_mul(w, w)]
    shares = torch._foreach_div(products, torch._foreach_add(squares, eps))
    rests = torch._foreach_addcmul(g, w, torch._foreach_neg(shares))
    torch._foreach_mul_(rests, torch._foreach_div(_norms(g), torch._foreach_add(_norms(rests), eps)))
    return [
        (rest if rest.shape[1] > 1 else torch.zeros_like(rest)).view_as(gradient)
        for rest, gradient in zip(rests, gradients, strict=True)
    ]


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [torch.linalg.vector_norm(tensor, dim=1, keepdim=True) for tensor in tensors]


class OrthogonalGradient(GradientFilter):
    """⊥Grad: of each tensor's gradient only the part orthogonal to the weights, at the norm of the whole.

    It removes the part of an update that only scales the logits, by which training without decay ends in softmax
    collapse. Source: Prieto et al., arXiv 2501.04697; see ``orthogonal``.

    Args:
        eps: Added to divisors. To the squared norm of the weights and to the norm of the orthogonal part of the
            gradient.

    Raises:
        UserError: If a number is out of range.
    """

    capturable = True

    def __init__(self, eps: float = 1e-30) -> None:
        check_range("model.filters: OrthogonalGradient.eps", eps, least=1e-37)  # below, float32 has no full precision
        self.eps = eps

    @torch.no_grad()
    def __call__(
        self, weights: dict[str, Tensor], gradients: dict[str, Tensor], step: Tensor, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        changed = orthogonal([weights[name] for name in gradients], list(gradients.values()), self.eps)
        return dict(zip(gradients, changed, strict=True))
