"""Tables in Markdown."""

from collections.abc import Mapping, Sequence

from mimia.evaluation.intervals import Estimate

_NO_BREAK = "\N{NO-BREAK SPACE}"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]), end="")
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def matrix_table(estimates: Mapping[tuple[str, str], Estimate], first: str, second: str) -> str:
    """Return a matrix of estimates over two axes; the first goes down."""
    down, across = (list(dict.fromkeys(place[axis] for place in estimates)) for axis in (0, 1))
    rows = [
        [row, *(estimate_text(estimates[row, column]) if (row, column) in estimates else "" for column in across)]
        for row in down
    ]
    return markdown_table([f"{first} ↓, {second} →", *across], rows)


def estimate_text(estimate: Estimate) -> str:
    """Return an estimate with its interval for a table, where both stay on one line."""
    if estimate.value is None:
        return "too few images" if estimate.note.startswith("too few images") else estimate.note
    return str(estimate).replace(" ", _NO_BREAK)
