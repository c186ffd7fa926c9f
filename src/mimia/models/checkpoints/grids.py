"""Rows and columns of the patches of somebody else's model."""

from collections.abc import Sequence

from mimia.config.sizes import collapsed, height_and_width, sides
from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.provenance import Fact
from mimia.models.sizes import MOST_TOKENS, divisors
from mimia.models.vit import find_grid
from mimia.runtime.errors import MimiaError


def grid_of_positions(facts: CheckpointFacts, name: str, before: Sequence[int], patch: int) -> tuple[int, int, int]:
    """Return rows and columns of the patches, and how many positions are of tokens before them.

    Sine-cosine positions show the grid. Others could be of any grid of so many patches: it is a square, unless the
    size of the images is known.

    Args:
        facts: What is known of the model.
        name: Weight with the positions, (1, rows, D).
        before: Possible numbers of positions of other tokens, which stand before those of the patches.
        patch: Side of a patch in pixels.

    Raises:
        MimiaError: The size that is known is of another grid, or nothing says it and the positions make no square.
    """
    count = facts.shape(name, 3)[1]
    if count > MOST_TOKENS + max(before):
        raise MimiaError(f"{facts.path} has {count:,} positions, and {MOST_TOKENS:,} patches are the most.")
    for first in before:
        positions = facts.state[name][0, first:]
        sizes = ((rows, len(positions) // rows) for rows in divisors(len(positions)))
        found = find_grid(positions) or likely_grid(facts, tuple(sizes), patch)
        if found is not None:
            return *checked_grid(facts, found, patch), first
    raise no_grid(facts, count)


def likely_grid(facts: CheckpointFacts, grids: Sequence[tuple[int, int]], patch: int) -> tuple[int, int] | None:
    """Return that of several grids that is known, or else the square one; None if neither is among them."""
    size = facts.stated("image_size")
    known = None if size is None else tuple(side // patch for side in height_and_width(size))
    square = next((grid for grid in grids if grid[0] == grid[1]), None)
    return next((grid for grid in grids if grid == known), square)


def no_grid(facts: CheckpointFacts, count: int) -> MimiaError:
    """Return the error for positions whose grid nothing says."""
    return MimiaError(
        f"{facts.path} has {count} positions, which make no square: pass "
        "--set checkpoint.image_size=[HEIGHT,WIDTH], the size of its training images."
    )


def checked_grid(facts: CheckpointFacts, grid: tuple[int, int], patch: int) -> tuple[int, int]:
    """Return a grid that the weights show, and note the size of the images.

    Raises:
        MimiaError: The size that is known is of another grid.
    """
    size, (rows, columns) = facts.stated("image_size"), grid
    shown = rows * patch, columns * patch
    if size not in (None, collapsed(shown)):
        raise MimiaError(
            f"{facts.path} was trained on images of {sides(size)} pixels, but its positions and patches are of "
            f"{sides(collapsed(shown))} ({rows} by {columns} patches of {patch} pixels): it is a mixture of two "
            "checkpoints."
        )
    if size is None:
        facts.facts["image_size"] = Fact(collapsed(shown), "weights")
    return grid
