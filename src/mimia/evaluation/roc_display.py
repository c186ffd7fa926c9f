"""A ROC curve that keeps its numbers and draws itself, in the manner of scikit-learn's displays."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from mimia.evaluation.arguments import sides
from mimia.evaluation.roc import roc_auc, roc_points
from mimia.runtime.arrays import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RocDisplay:
    """A ROC curve.

    Attributes:
        fpr: False-positive rates, (points,), rising from 0 to 1.
        tpr: True-positive rates, (points,).
        auc: Area under the curve.
        nonmembers: Number of non-members; one over it is the smallest FPR that the axes show.
        name: For the legend.
    """

    fpr: Floats
    tpr: Floats
    auc: float
    nonmembers: int
    name: str = ""

    @classmethod
    def from_scores(cls, scores: ArrayLike, is_member: ArrayLike, *, name: str = "") -> Self:
        """Compute the curve of scores.

        Args:
            scores: Higher for members, (images,).
            is_member: (images,); one or more of each side.
            name: For the legend.

        Raises:
            MimiaError: The arguments are no scores and labels of the same images.

        >>> RocDisplay.from_scores([0.9, 0.4, 0.6, 0.1], [True, True, False, False]).auc
        0.75
        """
        members, nonmembers = sides(scores, is_member)
        fpr, tpr = roc_points(members, nonmembers)
        return cls(fpr, tpr, roc_auc(members, nonmembers).value or 0.0, len(nonmembers), name)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the curve on logarithmic axes, where the TPR at a low FPR can be seen.

        Args:
            ax: Axes to draw on; default: those of a new figure.
        """
        if ax is None:
            from matplotlib import pyplot as plt  # late: importing it takes a second

            ax = plt.figure().add_subplot()
        floor = 1 / max(self.nonmembers, 10)
        if not ax.lines:
            ax.plot([floor, 1], [floor, 1], color="grey", linewidth=1, linestyle=":", label="chance")
        label = f"{self.name} (AUC = {self.auc:.3f})".lstrip()
        ax.plot(np.maximum(self.fpr, floor), np.maximum(self.tpr, floor), label=label)
        low = min(floor, ax.get_xlim()[0]) if ax.get_xscale() == "log" else floor
        ax.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1.1), xlabel="FPR", ylabel="TPR")
        ax.legend(loc="lower right")
        return ax
