"""Finite groups by their tables: irreducible representations, Fourier transforms, cosets, and the group of a formula."""
