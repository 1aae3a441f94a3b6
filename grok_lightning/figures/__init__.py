"""Figures: pure functions from records or tables to a matplotlib Figure."""
