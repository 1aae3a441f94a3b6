"""Size of the logits on training rows, and margin of the right one."""

import torch
from torch import Tensor

from grok_lightning.batch import NOTHING_TO_ANSWER
from grok_lightning.hardware.doubles import to_double
from grok_lightning.measures.base import Measure, View


class LogitScale(Measure):
    """Spread of the logits over the vocabulary on training rows, and the mean lead of the right answer's logit.

    ``logits/scale`` is the root mean square, over the answer tokens of training rows and the V classes, of the logits
    less their mean over the classes. ``logits/margin`` is the mean over the same tokens of the right class's logit less
    the largest of the others.
    """

    def __call__(self, view: View) -> dict[str, Tensor]:
        scales, margins = [], []
        for run, rows in enumerate(view.rows("train")):
            targets = view.targets_RNA[run, rows].flatten()
            counted = targets != NOTHING_TO_ANSWER
            logits = to_double(view.logits_RNAV[run, rows].flatten(0, 1)[counted])
            right = targets[counted][:, None].to(logits.device)
            scales.append((logits - logits.mean(-1, keepdim=True)).square().mean().sqrt())
            best_wrong = logits.scatter(-1, right, -torch.inf).amax(-1)
            margins.append((logits.gather(-1, right)[:, 0] - best_wrong).mean())
        return {"logits/scale": torch.stack(scales), "logits/margin": torch.stack(margins)}
