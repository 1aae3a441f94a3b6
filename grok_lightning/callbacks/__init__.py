"""Observers of a fit."""
