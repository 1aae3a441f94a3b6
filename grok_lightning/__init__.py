"""A workbench for grokking. See README.md for the commands and docs/ARCHITECTURE.md for the rooms."""
