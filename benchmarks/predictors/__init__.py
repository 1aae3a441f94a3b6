"""Predictors of the grok step, a file each."""
