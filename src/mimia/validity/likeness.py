"""Do the shadow models resemble the target? Compared on images that none of them was trained on.

An attack learns from shadow models what membership looks like. If they were trained much longer or shorter than the
target, on other numbers of images or with another augmentation, it looks for something that the target does not show,
and finding nothing means little. How a model answers about unseen images gives that away without any membership.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from mimia.runtime.arrays import Floats
from mimia.signals.arrays import AttackInput, Signals

_LEVEL = 0.002  # probability, for each quantity, that a model of the shadows' own training is called unlike
_PRIOR_DEVIATION, _PRIOR_WEIGHT = 0.05, 4  # what is assumed of log-quantities before two or more shadows are compared
_SMALLEST = 1e-12
_SPREAD = "spread of the error over images"


@dataclass(frozen=True)
class Likeness:
    """One quantity of the target's answers about unseen images, compared with the shadows'.

    Attributes:
        quantity: What it is, for a reader.
        ratio: The target's divided by the shadows' geometric mean.
        bound: Largest ratio, or inverse ratio, that is explained by how much the shadows differ among themselves.
    """

    quantity: str
    ratio: float
    bound: float

    @property
    def alike(self) -> bool:
        """Whether the target is within the bound."""
        return 1 / self.bound <= self.ratio <= self.bound


def most_unlike(found: Sequence[Likeness]) -> str | None:
    """Return, for a reader, the quantity that is farthest beyond its bound and what to change; None if all are within.

    A model that was trained longer, or on more images, differs more in its errors from image to image.
    """
    beyond = [each for each in found if not each.alike]
    if not beyond:
        return None
    worst = max(beyond, key=lambda each: abs(np.log(each.ratio)) / np.log(each.bound))
    spread = next((each.ratio for each in found if each.quantity == _SPREAD), worst.ratio)
    change = (
        "they are trained less than it: raise shadows.epochs or split.shadow_size, or leave out their augmentation"
        if spread > 1
        else "they are trained more than it: lower shadows.epochs or split.shadow_size, or give them its augmentation"
    )
    return (
        f"on images that none saw, the target's {worst.quantity} is {worst.ratio:.2f} of theirs, and among themselves "
        f"they differ by {1 / worst.bound:.2f} to {worst.bound:.2f}; perhaps {change}"
    )


def compare_likeness(inputs: AttackInput) -> tuple[Likeness, ...]:
    """Compare the target with the shadows on images that no model was trained on.

    The bound is a t-interval for one more model on the log scale. A few shadows say little of how much models of equal
    training differ, so their variance is joined with a prior of four degrees of freedom and a deviation of 5 %
    (moderated variances; Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004, equation 3).

    Args:
        inputs: Signals of the target and of two or more shadows.
    """
    target, shadows = _quantities(inputs.target), _quantities(inputs.references.signals)
    return tuple(
        _compare(name, float(np.log(values[0])), np.log(shadows[name]))
        for name, values in target.items()
        if values[0] > _SMALLEST and (shadows[name] > _SMALLEST).all()
    )


def _compare(name: str, target: float, shadows: Floats) -> Likeness:
    freedom = _PRIOR_WEIGHT + len(shadows) - 1
    squares = _PRIOR_WEIGHT * _PRIOR_DEVIATION**2 + ((shadows - shadows.mean()) ** 2).sum()
    deviation = np.sqrt(squares / freedom * (1 + 1 / len(shadows)))
    bound = float(student_t.isf(_LEVEL / 2, freedom) * deviation)
    return Likeness(name, float(np.exp(target - shadows.mean())), float(np.exp(bound)))


def _quantities(signals: Signals) -> Mapping[str, Floats]:
    """Return positive quantities of each model, (models,), by their names."""
    found = {}
    if "reconstruction" in signals.values:
        errors = signals["reconstruction"].astype(np.float64)
        logs = np.log(np.maximum(errors, _SMALLEST))
        found["reconstruction error"] = np.exp(logs.mean(axis=(1, 2)))
        found[_SPREAD] = logs.mean(axis=2).std(axis=1)
        found["spread of the error over masks"] = logs.std(axis=2).mean(axis=1)
    if "loss_neighbourhood" in signals.values:
        neighbours = signals["loss_neighbourhood"].astype(np.float64)
        of_means, means_of_logs = neighbours[:, :, 0::2], neighbours[:, :, 1::2]
        found["spread of the error over patches"] = (of_means - means_of_logs).mean(axis=(1, 2))
        found["error at other mask ratios, mirrored and shifted"] = np.exp(
            (of_means[:, :, 1:] - of_means[:, :, :1]).mean(axis=(1, 2))
        )
    for name in sorted(signals.values.keys() - {"reconstruction", "loss_neighbourhood"} if not found else ()):
        values = signals[name].astype(np.float64)
        found[f"mean of {name}"] = np.abs(values.mean(axis=(1, 2)))
        found[f"spread of {name} over images"] = values.mean(axis=2).std(axis=1)
    return found
