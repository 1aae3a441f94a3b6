"""Runs made up for tests: a norm that decays, a training split that is learnt, a validation split that follows."""

from math import exp, inf

import numpy as np

from grok_lightning.forecast import History


def make_history(
    memorize: int = 500,
    grok: float = 3000,
    budget: int = 10_000,
    rate: float = 1e-3,
    decay: float = 1.0,
    every: int = 100,
    seed: int = 0,
    **options: object,
) -> History:
    """A run that memorizes and groks at these steps, evaluated every so many; ``grok=inf``: never."""
    end = int(min(budget, grok + 500))
    steps = np.arange(0, end + 1, every, dtype=float)
    known = {
        "model.optimizer.class_path": "grok_lightning.optim.AdamW",
        "model.optimizer.lr": rate,
        "model.optimizer.weight_decay": decay,
        "model.network.class_path": "grok_lightning.models.Transformer",
        "model.network.layers": 1,
        "data.formula": "x + y",
        "data.train_fraction": 0.5,
        "data.batch_size": 512,
        "seed_everything": seed,
    }
    memorized = int(-(-memorize // every) * every)
    grokked = int(-(-grok // every) * every) if grok <= end else None
    validation = 0.98 / (1 + np.exp(-(steps - grok) / (0.1 * grok))) if grok < inf else np.full(len(steps), 0.01)
    columns = {
        "step": steps,
        "train/acc": np.where(steps >= memorized, 1.0, 0.5),
        "val/acc": np.where(steps >= (grokked or inf), 1.0, validation),
        "train/loss": np.where(steps >= memorized, 1e-3, 1.0),
        "val/loss": 4.0 + np.sin(steps / 1000),
        "norm/weights": 40 * np.exp(-rate * decay * steps / 4) + 20,
    }
    name = f"made/{memorize}-{grok:g}-{rate:g}-{decay:g}-{seed}"
    after = grokked - every if grokked is not None else None
    record = {"config_hash": name + str(options), "status": "finished"}
    return History(known | options, columns, budget, memorized, grokked, after, name, record)


def make_histories(count: int = 60, clock: float = 2.0, scatter: float = 0.1) -> list[History]:
    """Runs whose grok step is memorize step + clock / (ηλ) up to scatter, in conditions of rates and decays."""
    generator = np.random.default_rng(0)
    found = []
    for place in range(count):
        rate, decay = 10 ** generator.uniform(-3.3, -2.7), 10 ** generator.uniform(-0.3, 0.3)
        wait = clock / (rate * decay) * exp(scatter * generator.standard_normal())
        memorize = int(generator.integers(300, 700))
        found.append(make_history(memorize, memorize + wait, 20_000, rate, decay, 20, place))
    return found
