"""Tables that are too large to be computed whole."""

import numpy as np
import torch

from grok_lightning.data import ModularArithmeticDataModule
from grok_lightning.inspection.gather import gather_moments
from grok_lightning.inspection.inspection import Inspection
from grok_lightning.inspection.subject import MOST_SIDE, Subject
from grok_lightning.models import MLP


def test_a_large_table_is_seen_in_part() -> None:
    data = ModularArithmeticDataModule(modulus=151, train_fraction=0.3)
    network = MLP(data.vocabulary_size, data.length, [0], width=4, hidden=[6])
    subject = Subject(network.eval(), data, 5)
    found = Inspection(gather_moments([subject]), "t", [], 5)
    chosen = subject.scored_N
    assert 4000 < len(chosen) < 16384
    assert "of 22,801 rows, evenly chosen" in found.html
    assert "Maps have 128 of the 151 values of an operand" in found.html
    assert found.arrays["answers"].shape == (1, MOST_SIDE, MOST_SIDE)
    train = np.intersect1d(chosen, data.splits[0].train)
    with torch.no_grad():
        logits = network(data.tokens(data.operands_NK[train]))[0, :, 0]
    answers = torch.from_numpy(data.operation.results_N[train])
    assert found.arrays["rows"][0, 0] == len(train)
    assert np.isclose(found.arrays["loss"][0, 0], float(torch.nn.functional.cross_entropy(logits, answers)), rtol=1e-5)
    x, y = (values[[3, 77]] for values in subject.cells.values)
    rows = 151 * x[:, None] + y
    assert np.array_equal(subject.cells.rows_XY[np.ix_([3, 77], [3, 77])], rows)
