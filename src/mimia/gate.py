"""The validity gate of a run: what else than membership could tell its two sides apart?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimia.arrays import Bools, Indices
from mimia.attacks.base import Scores
from mimia.bench import Bench
from mimia.encoders.checkpoints import native
from mimia.evaluation.blind import blind_guesses
from mimia.evaluation.validity import ControlScores, Duplicates, Measurements, measure_validity
from mimia.images.duplicates import near_duplicates, repeated
from mimia.measuring import UNTRAINED, Measured
from mimia.report.gallery import picture
from mimia.report.schema import TwinPictures
from mimia.signals.base import play
from mimia.signals.sanity import relative_error
from mimia.splits import Role, Split

_SHADOWS = 2  # that are played in the target's place
_ORDINARY = 128  # images of a side by which reconstruction is examined
_SHOWN = 6  # pairs of near-duplicates


@dataclass(frozen=True)
class Twins:
    """Near-duplicates that are left in a split.

    Attributes:
        counts: How many there are.
        pairs: Across the sides, the most alike first; places in the split.
    """

    counts: Duplicates
    pairs: Sequence[tuple[int, int]]


def settle_twins(bench: Bench, split: Split, first: Role, second: Role) -> tuple[Split, Twins]:
    """Find near-duplicates across two sides and among their own images, and take them out if the settings say so.

    The first of those that are alike stays, and of a pair across the sides the one on the first side.
    """
    places = np.flatnonzero(split.of(first)), np.flatnonzero(split.of(second))
    ones, others = (bench.images.pixels[split.rows[side]] for side in places)
    across = near_duplicates(ones, others)
    again = [side[repeated(pixels)] for side, pixels in zip(places, (ones, others), strict=True)]
    if bench.settings.data.near_duplicates == "remove":
        gone = np.union1d(np.concatenate(again), places[1][[pair.second for pair in across]])
        return (split.without(gone, "near-duplicates") if len(gone) else split), Twins(Duplicates(0, (0, 0)), [])
    counts = Duplicates(len({pair.first for pair in across}), (len(again[0]), len(again[1])))
    return split, Twins(counts, [(int(places[0][pair.first]), int(places[1][pair.second])) for pair in across])


def show_twins(bench: Bench, split: Split, twins: Twins) -> tuple[TwinPictures, ...]:
    """Give pictures of the pairs that are most alike."""
    places = np.array(twins.pairs[:_SHOWN], dtype=np.intp).ravel()
    images = bench.images.take(split.rows[places])
    shown = [(str(name), picture(pixels)) for name, pixels in zip(images.names, images.pixels, strict=True)]
    return tuple(
        TwinPictures(names=(first[0], second[0]), pictures=(first[1], second[1]))
        for first, second in zip(shown[::2], shown[1::2], strict=True)
    )


def examine(
    bench: Bench,
    measured: Measured,
    split: Split,
    scores: Scores,
    inside: Role,
    outside: Role,
    twins: Twins,
) -> Measurements:
    """Measure on the images of a run all that the verdict depends on besides the attacks' own figures.

    Args:
        bench: What the run works with.
        measured: What models say.
        split: Roles of the images.
        scores: Of the attack that decides, on all images that are judged.
        inside: Role of the first side.
        outside: Role of the other.
        twins: Near-duplicates on the sides.
    """
    judged = np.flatnonzero(split.judged)
    asked: Bools = split.of(inside, outside)[judged]
    rows = split.rows[judged][asked]
    members = split.of(inside)[judged][asked]
    images = bench.images
    return measure_validity(
        scores.values[asked],
        members,
        blind_guesses(images.pixels[rows], images.facts[rows], members, bench.settings.evaluation.seed),
        _controls(bench, measured, scores.attack, asked),
        twins.counts,
        _reconstruction(bench, measured, [rows[members], rows[~members]]),
        bench.settings.evaluation,
    )


def _controls(bench: Bench, measured: Measured, name: str, asked: Bools) -> list[ControlScores]:
    """Play an attack on models that saw neither side, with the shadows as references."""
    attack = bench.attacks[name]
    if attack.needs.online:  # its references saw the very images
        return []
    evidence = measured.evidence
    known = evidence.known.references if evidence.known is not None else None
    controls = [
        ControlScores(
            f"shadow {index + 1}", attack.score(play(evidence.references, index, known)).values[asked], asked[asked]
        )
        for index in range(min(_SHADOWS, len(evidence.references)))
    ]
    if measured.untrained is not None:
        chosen = measured.untrained.chosen
        values = attack.score(measured.untrained.evidence).values
        controls.append(ControlScores(UNTRAINED, values, chosen[asked]))
    return controls


def _reconstruction(bench: Bench, measured: Measured, sides: Sequence[Indices]) -> float | None:
    """Compare the target's error with that of the mean colour, where its own decoder reconstructs.

    The better side counts: a model that remembers its few images rebuilds no others, and reconstructs nevertheless.
    """
    if measured.read is None or bench.decoder != "own":
        return None
    model = native.load(measured.read)
    ordinary = (bench.images.take(rows[:_ORDINARY]) for rows in sides)
    return min(relative_error(model, images, bench.settings.compute) for images in ordinary)
