"""Sweeps: many runs from one file, trained together, none of them lost."""
