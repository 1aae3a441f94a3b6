"""Optimizer steps and evaluations of a stack, without the Trainer."""
