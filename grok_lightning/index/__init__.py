"""The results of all runs as one table, quickly: an index of each experiment that can always be made anew."""

from grok_lightning.index.results import read_records, refresh

__all__ = ["read_records", "refresh"]
