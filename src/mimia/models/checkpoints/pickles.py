"""Pickles, read as data: nothing that a file names is looked up, imported or called.

Python's own reader of pickles runs what a file tells it to run. torch's reader for ``weights_only`` runs what is on a
list, and stops at everything else: at the protocols 3 to 5, and at every dictionary, path or enumeration of a library
that it does not know. This one has no function to run. Lists, texts and numbers become themselves, a class becomes its
name (`Named`), and an object a record of what it would have been made of (`Made`); `values` makes plain values of those
that are known. Names of what could run code are an error before anything else happens (`names`).

Both time and memory are bounded by the length of the file: a key of a dictionary is a plain value, because the hash of
a pair of pairs of pairs takes 2ⁿ steps.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from mimia.models.checkpoints.names import Named, judge, judge_call

LARGEST = 32 << 20
"""Bytes of a pickle at most; that of a ViT-Huge with its optimiser has half of one MiB."""
_MOST_STEPS = 1_000_000
_LONGEST_KEY = 16  # values of a tuple
_LARGEST_KEY = 1 << 60  # the hashes of larger ones can be made to collide
_SET, _FROZEN = Named("builtins", "set"), Named("builtins", "frozenset")


class DamagedError(ValueError):
    """A file that contradicts itself, or goes on without end."""


@dataclass(eq=False, slots=True)
class Made:
    """An object that is not made, but described.

    Attributes:
        by: What would be called.
        arguments: With what.
        state: What would be put into it then.
        items: What it would be extended by.
        entries: Its keys and values, if it is a kind of dictionary.
    """

    by: Named
    arguments: tuple[object, ...]
    state: object = None
    items: list[object] = field(default_factory=list)
    entries: dict[object, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """Numbers that stand elsewhere in the file.

    Attributes:
        id: How the pickle refers to them.
    """

    id: object


def read_pickle(stream: IO[bytes], stored: list[Stored] | None = None) -> object:
    """Return what the pickle at the place of a stream describes, and leave the stream behind it.

    Args:
        stream: Of bytes.
        stored: Is extended by all references to numbers.

    Raises:
        ForbiddenNameError: It names what could run code.
        DamagedError: It is damaged, or has too many steps.
    """
    machine = _Machine([] if stored is None else stored)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= _MOST_STEPS:
            raise DamagedError("the pickle has too many steps")
        _STEPS[opcode.name](machine, argument)
    if len(machine.stack) != 1 or machine.marks:
        raise DamagedError("the pickle leaves more than one value")
    return machine.stack[0]


class _Machine:
    """The stack, the marks on it, and the memo that the steps of a pickle work on."""

    def __init__(self, stored: list[Stored]) -> None:
        self.stored = stored
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise DamagedError("the pickle takes a value that is not there")
        return self.stack.pop()

    def top(self) -> Any:
        self.push(value := self.pop())
        return value

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def above_mark(self) -> list[Any]:
        """Take what lies above the last mark."""
        place = self.marks.pop()
        above = self.stack[place:]
        del self.stack[place:]
        return above

    def tuple_of(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def put(self, place: Any) -> None:
        self.memo[len(self.memo) if place is None else int(place)] = self.top()

    def get(self, place: Any) -> None:
        self.push(self.memo[int(place)])

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedError("the pickle names something by a value that is no text")
        self.push(judge(Named.of(module, name)))

    def stack_global(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def make(self, by: object, arguments: object) -> None:
        if not isinstance(by, Named) or not isinstance(arguments, tuple):
            raise DamagedError("the pickle calls something that is no name")
        method = judge_call(by, arguments)
        self.push(Made(by, arguments) if method is None else method)

    def reduce(self, _: object) -> None:
        arguments, by = self.pop(), self.pop()
        self.make(by, arguments)

    def new_with_keywords(self, _: object) -> None:
        keywords, arguments, by = self.pop(), self.pop(), self.pop()
        self.make(by, arguments)
        self.build_on(self.stack[-1], keywords)

    def instance(self, name: str) -> None:
        arguments = self.above_mark()
        self.name(*name.split(" ", 1))
        self.make(self.pop(), tuple(arguments))

    def object_of(self, _: object) -> None:
        by, *arguments = self.above_mark()
        self.make(by, tuple(arguments))

    def refer(self, _: object) -> None:
        self.stored.append(Stored(self.pop()))
        self.push(self.stored[-1])

    def build(self, _: object) -> None:
        state = self.pop()
        self.build_on(self.top(), state)

    def build_on(self, target: object, state: object) -> None:
        if not isinstance(target, Made):
            raise DamagedError("the pickle gives a state to what has none")
        target.state = state

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list | Made):
            raise DamagedError("the pickle extends what is no list")
        (target.items if isinstance(target, Made) else target).extend(items)

    def new_dictionary(self, _: object) -> None:
        flat = self.above_mark()
        self.push({})
        self.set_items(flat)

    def set_items(self, flat: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict | Made) or len(flat) % 2:
            raise DamagedError("the pickle sets keys of what is no dictionary")
        entries = target.entries if isinstance(target, Made) else target
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            entries[_checked(key)] = value


def _checked(key: Any) -> Any:
    """Return the key of a dictionary if its hash takes one step, or few.

    Raises:
        DamagedError: It does not.
    """
    flat = key if isinstance(key, tuple) else (key,)
    if len(flat) > _LONGEST_KEY:
        raise DamagedError("the pickle has a long key")
    for each in flat:
        if not isinstance(each, str | bytes | int | float | None | Named | Made):
            raise DamagedError("the pickle has a key that is no plain value")
        if isinstance(each, int) and not -_LARGEST_KEY < each < _LARGEST_KEY:
            raise DamagedError("the pickle has a key without bounds")
    return key


_Step = Callable[[_Machine, Any], object]
_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
)
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(_LITERALS, lambda machine, argument: machine.push(argument)),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(Made(_SET, ([],))),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "MARK": _Machine.mark,
    "TUPLE": lambda machine, _: machine.push(tuple(machine.above_mark())),
    "LIST": lambda machine, _: machine.push(machine.above_mark()),
    "DICT": _Machine.new_dictionary,
    "FROZENSET": lambda machine, _: machine.push(Made(_FROZEN, (machine.above_mark(),))),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.above_mark(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": lambda machine, name: machine.name(*name.split(" ", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.reduce),
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "INST": _Machine.instance,
    "OBJ": _Machine.object_of,
    "BUILD": _Machine.build,
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda machine, _: machine.extend(machine.above_mark())),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "BINPERSID": _Machine.refer,
}
