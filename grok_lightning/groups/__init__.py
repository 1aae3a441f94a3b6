"""Finite groups: irreducible representations, Fourier transforms, cosets, and the group of a formula."""
