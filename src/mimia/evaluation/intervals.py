"""A figure with its interval."""

from dataclasses import dataclass

from scipy.stats import binomtest

CONFIDENCE = 0.95
"""Of all intervals and bounds that a report shows."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes:
        value: The figure, or None if there are too few images for it.
        low: Lower end of the interval.
        high: Upper end of the interval.
        note: Why there is no figure, or a remark on it.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return self.note
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def proportion(hits: int, of: int, confidence: float = CONFIDENCE) -> Estimate:
    """Return a proportion with its exact interval (Clopper and Pearson, 1934).

    >>> str(proportion(9, 10))
    '0.900 [0.555, 0.997]'
    """
    if of == 0:
        return Estimate(None, note="too few images")
    interval = binomtest(hits, of).proportion_ci(confidence, method="exact")
    return Estimate(hits / of, float(interval.low), float(interval.high))


def p_value_text(p_value: float) -> str:
    """Write a p-value with two digits, or as “< 1e-12”.

    >>> p_value_text(0.01234), p_value_text(3e-46)
    ('0.012', '< 1e-12')
    """
    return f"{p_value:.2g}" if p_value >= 1e-12 else "< 1e-12"
