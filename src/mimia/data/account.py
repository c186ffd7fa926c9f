"""What a source held, what of it is used, and why the rest is not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mimia.data.imageset import LeftOut
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import console
from mimia.runtime.text import shortened

_TOLERATED = 0.01  # proportion of what looks like data that may be left out without a word of the user's
_LISTED = 2  # examples in a sentence


@dataclass(frozen=True)
class SourceAccount:
    """What became of the images of one source.

    Attributes:
        name: The source.
        found: Number of images there, and of other files that look like data.
        left_out: What of it could not be used.
        notes: What else its reader has to know, such as which split it is.
    """

    name: str
    found: int
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def used(self) -> int:
        """Return the number of images that are used."""
        return self.found - len(self.left_out)

    @property
    def reasons(self) -> dict[str, int]:
        """Return how many were left out for each reason, the most frequent first."""
        return dict(Counter(entry.reason for entry in self.left_out).most_common())

    def __str__(self) -> str:
        """Return a line such as ``photos: 40 found, 39 used; left out: 1 (a.png: not an image)``."""
        text = f"{self.name}: {self.found:,} found, {self.used:,} used"
        if self.left_out:
            text += f"; left out: {len(self.left_out):,} ({self.examples})"
        return "; ".join([text, *self.notes])

    @property
    def examples(self) -> str:
        """Return the first ones that were left out, with their reasons."""
        first = [f"{shortened(entry.name, 40)}: {shortened(entry.reason)}" for entry in self.left_out[:_LISTED]]
        return "; ".join([*first, *(["…"] if len(self.left_out) > _LISTED else [])])


def announce(accounts: Sequence[SourceAccount]) -> None:
    """Print a line about each source."""
    for account in accounts:
        console.print(str(account), markup=False, highlight=False, soft_wrap=True)


def refuse_if_many_left_out(accounts: Sequence[SourceAccount]) -> None:
    """Raise if more than 1 % of a source is left out.

    Raises:
        MimiaError: It is.
    """
    for account in accounts:
        if len(account.left_out) > _TOLERATED * account.found:
            raise MimiaError(
                f"{account.name}: {len(account.left_out):,} of {account.found:,} are left out ({account.examples}): "
                "mend or remove them, or pass --allow-skipped (data.allow_skipped) to go on without."
            )
