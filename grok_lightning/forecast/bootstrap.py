"""Bootstrap intervals of scores, by condition: runs of one condition are drawn together, since they are alike."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 300


def interval(
    statistic: Callable[[NDArray[np.intp]], float],
    groups: Sequence[Hashable],
    draws: int = DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of runs.

    Args:
        statistic: Of the places of runs, with repetitions; NaN or a ValueError for a draw that has none.
        groups: The condition of each run.
        draws: Number of draws.
        level: Of the interval.
        seed: Of the draws.

    Returns:
        Its ends; NaN if no draw has a value, or there is one condition only.
    """
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    members = [np.array(each) for each in places.values()]
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        chosen = generator.integers(len(members), size=len(members))
        try:
            found.append(statistic(np.concatenate([members[each] for each in chosen])))
        except ValueError:
            found.append(np.nan)
    if not np.isfinite(found).any() or len(members) < 2:
        return np.nan, np.nan
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the share of pairs in which the positive one has the higher score, ties counting half.

    Raises:
        ValueError: There are no positives or no negatives.
    """
    ups, downs = np.sort(scores[positive]), np.sort(scores[~positive])
    if not len(ups) or not len(downs):
        raise ValueError("the curve needs positives and negatives")
    below = np.searchsorted(downs, ups, side="left") + np.searchsorted(downs, ups, side="right")
    return float(below.sum() / (2 * len(ups) * len(downs)))
