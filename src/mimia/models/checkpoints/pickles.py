"""Pickles before they are loaded: those that would take time without end are refused.

torch's own unpickler runs nothing that is not on its list. But it follows as many steps as a file has, and the hash of
a pair of pairs of pairs, as the key of a dictionary, takes 2ⁿ steps.
"""

import io
import pickletools
from typing import Any

LARGEST = 32 << 20
"""Bytes of a pickle at most; that of a ViT-Huge with its optimiser has half of one MiB."""
_MOST_STEPS = 1_000_000
_DEEPEST_TUPLE = 16
_OF_A_FILE = 5  # what torch before 1.6 puts in front of the numbers
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "EMPTY_TUPLE": 0}
_MARK = -1  # on the stack of depths


def check_pickle(content: bytes) -> None:
    """Raise if a pickle has too many steps or tuples in tuples.

    Raises:
        ValueError: It does, or it is damaged.
    """
    _check(io.BytesIO(content), 0)


def check_pickles(content: bytes) -> None:
    """Raise if one of the pickles with which a file starts has too many steps or tuples in tuples.

    Raises:
        ValueError: It does, or the first is damaged.
    """
    stream = io.BytesIO(content)
    steps = _check(stream, 0)
    for _ in range(_OF_A_FILE - 1):
        if stream.tell() < len(content):
            steps = _check(stream, steps)


def _check(stream: io.BytesIO, steps: int) -> int:
    """Follow one pickle by the depth of the tuples on its stack, and return the number of steps so far."""
    stack: list[int] = []
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        steps += 1
        if steps > _MOST_STEPS:
            raise ValueError("the pickle has too many steps")
        _step(opcode, argument, stack, memo)
        if stack and stack[-1] > _DEEPEST_TUPLE:
            raise ValueError("the pickle has tuples in tuples without end")
    return steps


def _step(opcode: Any, argument: Any, stack: list[int], memo: dict[Any, int]) -> None:
    name: str = opcode.name
    if name == "MARK":
        stack.append(_MARK)
    elif name in _TUPLES:
        count = _TUPLES[name]
        inner = [stack.pop() for _ in range(count)]
        stack.append(1 + max(inner, default=0))
    elif name == "TUPLE":
        stack.append(1 + max(_to_mark(stack), default=0))
    elif name == "DUP":
        stack.append(stack[-1])
    elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    else:
        before = [each.name for each in opcode.stack_before]
        if "mark" in before:
            _to_mark(stack)
            before = before[: before.index("mark")]
        for _ in before:
            stack.pop()
        stack += [0] * len(opcode.stack_after)


def _to_mark(stack: list[int]) -> list[int]:
    """Take what lies above the last mark from the stack, and the mark."""
    above = []
    while (top := stack.pop()) != _MARK:
        above.append(top)
    return above
