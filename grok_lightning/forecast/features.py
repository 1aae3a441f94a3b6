"""Features of a run at one of its evaluations: numbers that a forecast may depend on, from nothing that comes later."""

from collections.abc import Mapping
from math import isfinite, log, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grok_lightning.forecast.formula import structure
from grok_lightning.forecast.history import History

DESCRIPTIONS = {
    "log_clock": "−ln(ηλ), learning rate times weight decay",
    "no_decay": "whether the weight decay is 0",
    "log_rate": "ln η, the learning rate",
    "fraction": "train fraction α",
    "inverse_fraction": "1 / α",
    "fraction_from_half": "(α − 0.5)²",
    "log_memorize_step": "ln of the memorize step",
    "val_logit": "log odds of the validation accuracy",
    "val_logit_squared": "square of the log odds of the validation accuracy",
    "val_logit_slope": "growth of the log odds of the validation accuracy per unit of ln step",
    "log_val_loss": "ln of the validation loss",
    "val_loss_slope": "growth of ln validation loss per unit of ln step",
    "val_loss_fall": "by how much ln validation loss lies below its highest value so far",
    "log_train_loss": "ln of the training loss",
    "log_norm": "ln V, V the squared norm of all weights",
    "norm_growth": "ln V less its value at step 0",
    "norm_slope": "growth of ln V per unit of ln step",
    "log_norm_attention": "ln of the squared norm of the attention's weights",
    "log_norm_head": "ln of the squared norm of the head's weights",
    "log_batch": "ln of the batch size",
    "layers": "number of layers",
    "log_width": "ln of the width",
    "log_symbols": "ln of the modulus",
    "log_embedding_std": "ln of the standard deviation of the first embeddings",
    "dropout": "dropout",
    "tied": "whether embedding and head are one matrix",
    "recurrent": "LSTM or GRU",
    "mlp": "MLP",
    "muon": "the optimizer Muon",
    "sgd": "the optimizer SGD",
    "coupled_decay": "weight decay added to the gradient (L2), not decoupled",
    "orthogonal_gradient": "the filter OrthogonalGradient",
    "stablemax": "the loss StableMax",
    "commutative": "whether the formula is symmetric in its first two operands",
    "separate": "whether each operand occurs once in the formula",
    "conditional": "whether the formula has a condition",
}
NAMES = tuple(DESCRIPTIONS)
COUPLED = ("SGD", "RMSprop", "Adam", "Adagrad", "NAdam", "RAdam")
BEFORE = 0.6  # slopes are taken since the last evaluation up to this share of the step
SMALLEST = 1e-9  # of losses
PARTS = ("", "adamw_", "embedding_", "head_", "vector_")  # of the weights, with rates and decays of their own
UNDECAYED = 0.03  # λ in ηλ where there is no decay: times still go with 1 / η; ``no_decay`` makes up for the number
CERTAIN = 1e-4  # accuracies are kept from 0 and 1 by this


def features(history: History, step: float) -> NDArray[np.float64]:
    """The features of a run at its last evaluation up to a step.

    Args:
        history: The run. What it holds beyond the step is not looked at.
        step: A step at or after its first evaluation.

    Returns:
        The values in the order of ``NAMES``; NaN where one is not known.
    """
    values = _of_options(history.options) | _of_evaluations(history.until(step))
    return np.array([values.get(name, nan) for name in NAMES])


def _of_evaluations(history: History) -> dict[str, float]:
    last, columns = len(history.steps) - 1, history.columns
    if last < 0:
        return {}
    before = max(int(np.searchsorted(history.steps, BEFORE * history.steps[last], side="right")) - 1, 0)
    span = log((history.steps[last] + 1) / (history.steps[before] + 1))

    def slope(values: NDArray[np.float64]) -> float:
        return float(values[last] - values[before]) / span if span > 0 else nan

    right = _logit(columns["val/acc"])
    loss = _log(columns["val/loss"])
    norm = 2 * _log(columns["norm/weights"])
    found = {
        "log_memorize_step": log(max(history.memorize_step, 1)) if history.memorize_step is not None else nan,
        "val_logit": right[last],
        "val_logit_squared": right[last] ** 2,
        "val_logit_slope": slope(right),
        "log_val_loss": loss[last],
        "val_loss_slope": slope(loss),
        "val_loss_fall": np.fmax.reduce(loss) - loss[last],
        "log_train_loss": _log(columns["train/loss"])[last],
        "log_norm": norm[last],
        "norm_growth": norm[last] - norm[0],
        "norm_slope": slope(norm),
    }
    for part in ("attention", "head"):
        if (values := columns.get(f"norm/{part}")) is not None:
            found[f"log_norm_{part}"] = 2 * _log(values)[last]
    return {name: float(value) for name, value in found.items()}


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms; NaN where a value is not finite."""
    kept = np.where(np.isfinite(values), values, nan)
    return np.log(np.maximum(kept, SMALLEST))


def _logit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    kept = np.clip(share, CERTAIN, 1 - CERTAIN)
    return np.log(kept / (1 - kept))


def _of_options(options: Mapping[str, Any]) -> dict[str, float]:
    counted_otherwise = any(options.get(f"data.{name}") is not None for name in ("train_rows", "splits"))
    fraction = nan if counted_otherwise else number(options.get("data.train_fraction"))
    batch, spread = number(options.get("data.batch_size")), number(options.get("model.network.embedding_std"))
    width, modulus = number(options.get("model.network.width")), number(options.get("data.modulus"))
    network, optimizer = (class_name(options, f"model.{part}") for part in ("network", "optimizer"))
    rate, clock = number(options.get("model.optimizer.lr")), decay_clock(options)
    ticks = rate * UNDECAYED if clock == 0 else clock
    shape = structure(formula) if isinstance(formula := options.get("data.formula"), str) else None
    coupled = optimizer in COUPLED or options.get("model.optimizer.decay") == "l2"
    return {
        "log_clock": -log(ticks) if ticks > 0 else nan,
        "no_decay": float(clock == 0),
        "log_rate": log(rate) if rate > 0 else nan,
        "fraction": fraction,
        "inverse_fraction": 1 / fraction if fraction > 0 else nan,
        "fraction_from_half": (fraction - 0.5) ** 2,
        "log_batch": log(batch) if batch > 0 else nan,
        "layers": number(options.get("model.network.layers")),
        "log_width": log(width) if width > 0 else nan,
        "log_symbols": log(modulus) if modulus > 0 else nan,
        "log_embedding_std": log(spread) if spread > 0 else nan,
        "dropout": number(options.get("model.network.dropout")),
        "tied": float(options.get("model.network.tied") is True),
        "recurrent": float(network in ("LSTM", "GRU")),
        "mlp": float(network in ("MLP", "ResidualMLP")),
        "muon": float(optimizer == "Muon"),
        "sgd": float(optimizer == "SGD"),
        "coupled_decay": float(coupled),
        "orthogonal_gradient": float("OrthogonalGradient" in str(options.get("model.filters"))),
        "stablemax": float(options.get("model.loss") == "stablemax"),
        "commutative": nan if shape is None else shape.commutative,
        "separate": nan if shape is None else shape.separate,
        "conditional": nan if shape is None else shape.conditional,
    }


def decay_clock(options: Mapping[str, Any]) -> float:
    """ηλ, learning rate times weight decay, the largest of any part of the weights; NaN if it is not known."""
    rate, decay = number(options.get("model.optimizer.lr")), number(options.get("model.optimizer.weight_decay"))
    found = [rate * decay]
    for part in PARTS:
        own = (
            number(options.get(f"model.optimizer.{part}lr")),
            number(options.get(f"model.optimizer.{part}weight_decay")),
        )
        found.append((rate if own[0] != own[0] else own[0]) * (decay if own[1] != own[1] else own[1]))
    known = [each for each in found if each == each]
    return max(known) if known else nan


def number(value: Any) -> float:
    """A number as it is; NaN for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return nan
    found = float(value)
    return found if isfinite(found) else nan


def class_name(options: Mapping[str, Any], owner: str) -> str:
    """Name of the class of an option, without its module."""
    return str(options.get(f"{owner}.class_path")).rsplit(".", 1)[-1]
