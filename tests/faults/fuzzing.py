"""What the fuzzers share: for how long they run, the inputs that are kept, and what every reader may do."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from mimia.runtime.errors import MimiaError

MINUTES = float(os.environ.get("MIMIA_FUZZ_MINUTES", "10"))
"""For each reader, in `make test-slow`."""
CORPUS = Path(__file__).with_name("corpus")
_LONGEST, _PATIENCE = 300, 10.0
_A_RUN = 200  # examples; more in one run are much alike

Reader = Callable[[bytes], object]


def kept(reader: str) -> list[Path]:
    """Return the inputs of a reader's corpus."""
    return sorted(path for path in (CORPUS / reader).iterdir() if path.is_file())


def check(read: Reader, content: bytes) -> bool:
    """Read, and return whether it was taken; a refusal is one short sentence, and either comes soon."""
    started = time.monotonic()
    try:
        read(content)
        taken = True
    except MimiaError as error:
        sentence = str(error)
        assert len(sentence) <= _LONGEST, sentence
        assert "\n" not in sentence
        taken = False
    assert time.monotonic() - started < _PATIENCE
    return taken


def mutated(seeds: list[bytes], words: list[bytes]) -> st.SearchStrategy[bytes]:
    """Change good inputs: bytes and known words are put in, left out, repeated and exchanged."""
    edit = st.tuples(
        st.sampled_from(["insert", "delete", "overwrite", "replace", "repeat", "word", "cut"]),
        st.floats(0, 1),
        st.integers(1, 64),
        st.binary(max_size=16),
        st.sampled_from(words),
    )

    def apply(seed: bytes, edits: list[tuple[str, float, int, bytes, bytes]]) -> bytes:
        for kind, place, length, noise, word in edits:
            start = int(place * len(seed))
            before, middle, after = seed[:start], seed[start : start + length], seed[start + length :]
            match kind:
                case "insert":
                    seed = before + noise + middle + after
                case "delete":
                    seed = before + after
                case "overwrite":
                    seed = before + noise + seed[start + len(noise) :]
                case "replace":
                    seed = before + noise + after
                case "repeat":
                    seed = before + middle * 3 + after
                case "word":
                    seed = before + word + after
                case "cut":
                    seed = before
        return seed

    return st.builds(apply, st.sampled_from(seeds), st.lists(edit, min_size=1, max_size=6))


def fuzz(reader: str, read: Reader, inputs: st.SearchStrategy[bytes], kinds: int = 1) -> None:
    """Read generated inputs for the time that a reader has, shared by the kinds of its inputs.

    What fails stays in the corpus as ``failed-…``.
    """
    ends, count, taken = time.monotonic() + 60 * MINUTES / kinds, 0, 0
    database = DirectoryBasedExampleDatabase(CORPUS.parent / ".hypothesis" / reader)

    @settings(
        max_examples=_A_RUN,
        deadline=None,
        database=database,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.reuse, Phase.generate),
        verbosity=Verbosity.quiet,
    )
    @given(inputs)
    def one_run(content: bytes) -> None:
        nonlocal count, taken
        count += 1
        try:
            taken += check(read, content)
        except BaseException:
            (CORPUS / reader / f"failed-{crc32(content):08x}").write_bytes(content)
            raise

    while time.monotonic() < ends:
        one_run()
    print(f"{reader}: {count:,} inputs, of which {taken:,} were taken")


def replayed(reader: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test once for each input of a reader's corpus."""
    paths = kept(reader)
    return pytest.mark.parametrize("path", paths, ids=[path.name for path in paths])
