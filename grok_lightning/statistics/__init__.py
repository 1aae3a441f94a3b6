"""Statistics that know about censoring: shares with intervals, Kaplan-Meier estimates, log-rank tests."""

from grok_lightning.statistics.survival import LEAST_RUNS, KaplanMeier, holm, kaplan_meier, log_rank, wilson
from grok_lightning.statistics.times import times

__all__ = ["LEAST_RUNS", "KaplanMeier", "holm", "kaplan_meier", "log_rank", "times", "wilson"]
