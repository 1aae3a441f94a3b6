from itertools import product
from typing import Any

from grok_lightning.data import TableDataModule, TabulatedAlgebra


class HeisenbergDataModule(TableDataModule):
    """Operations over the Heisenberg group: upper triangular 3 x 3 matrices with ones on the diagonal.

    Args:
        formula: Formula, such as x * y.
        modulus: p, the modulus of the three other entries.
        options: Those of ``TableDataModule``.
    """

    def __init__(self, formula: str | list[str] = "x * y", modulus: int = 5, **options: Any) -> None:
        self.modulus = modulus
        super().__init__(formula, **options)

    def algebra(self) -> TabulatedAlgebra:
        p = self.modulus

        def times(x: tuple[int, int, int], y: tuple[int, int, int]) -> tuple[int, int, int]:
            return (x[0] + y[0]) % p, (x[1] + y[1]) % p, (x[2] + y[2] + x[0] * y[1]) % p

        return TabulatedAlgebra(product(range(p), repeat=3), {"*": times}, title=f"over the Heisenberg group mod {p}")
