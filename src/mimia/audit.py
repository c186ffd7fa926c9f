"""The main job: does this encoder give away the images it was pre-trained on?

`audit` is also the Python interface; the command line goes through it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimia.arrays import Bools, Floats, Indices
from mimia.attacks.base import Scores
from mimia.bench import Bench, prepare, refuse_too_few
from mimia.config import DataSettings, Settings
from mimia.downstream import downstream_use
from mimia.errors import MimiaError
from mimia.evaluation.comparison import compare
from mimia.evaluation.epsilon import Fixed, epsilon_lower_bound
from mimia.evaluation.estimate import CONFIDENCE
from mimia.evaluation.evaluate import evaluate_together, image_p_values
from mimia.evaluation.one_run import one_run_bound
from mimia.evaluation.verdict import Sides, judge, strongest
from mimia.gate import examine, settle_twins, show_twins
from mimia.images.canaries import EXCLUDED, INCLUDED
from mimia.images.load import LoadedImages
from mimia.measuring import attack_images, measure
from mimia.record import histogram, record_run
from mimia.report.schema import AuditReport
from mimia.splits import SIDES, Split, split_for_audit

_SHOWN = 6  # of each group in the gallery


@dataclass(frozen=True)
class AuditResult:
    """A report, and the scores of every image.

    Attributes:
        report: The truth of the run.
        scores: Columns of ``scores.csv``: name, id, role, and each attack's score and p-value.
    """

    report: AuditReport
    scores: Mapping[str, Sequence[object]]


def audit(settings: Settings) -> AuditResult:
    """Audit a model, or one that is trained here if the settings name none.

    Images → split → models → signals → attacks → evaluation → report; what the store already has is not computed
    again.

    Raises:
        MimiaError: The settings, the images or the checkpoint do not allow an audit.
    """
    bench = prepare(settings, list(sources_of(settings).values()))
    split = split_for_audit(
        bench.images.ids,
        _sides(settings, bench.loaded),
        settings.split,
        bench.wanted,
    )
    split, twins = settle_twins(bench, split, "member", "nonmember")
    refuse_too_few(split, "member", "nonmember")
    measured = measure(bench, split)
    attacks = attack_images(bench, measured)

    judged = np.flatnonzero(split.judged)  # places in the split, in the order of the scores
    holdout = split.of("holdout")[judged]
    members, nonmembers = split.of("member")[judged], split.of("nonmember")[judged]
    of_sides = [scores.of_images(~holdout) for scores in attacks]
    evaluations = evaluate_together(of_sides, members[~holdout], settings.evaluation)
    place = evaluations.index(strongest(evaluations))
    deciding = attacks[place]
    validity = examine(bench, measured, split, deciding, "member", "nonmember", twins)
    sides = Sides("members", "non-members", (int(members.sum()), int(nonmembers.sum())))
    confidence = 1 - (1 - CONFIDENCE) / len(attacks)  # the attack was chosen among them on these images
    values, of_members = of_sides[place].values, members[~holdout]
    canaries = settings.data.canaries is not None
    shown = _most_exposed_and_others(deciding.values, members, nonmembers, settings.evaluation.seed)
    groups = {"members": members, "non-members": nonmembers}
    report = AuditReport(
        verdict=judge(evaluations, validity, sides),
        evaluations=evaluations,
        strongest=deciding.attack,
        comparisons={
            other.attack: compare(values, other.values, of_members)
            for other in of_sides
            if other.attack != deciding.attack
        },
        measured=validity,
        twins=show_twins(bench, split, twins),
        epsilon=epsilon_lower_bound(
            values[of_members], values[~of_members], Fixed(deciding.threshold), confidence=confidence
        ),
        one_run=one_run_bound(values, of_members, confidence=confidence) if canaries else None,
        drawn_at_random=canaries or (settings.target is None and "source" in sources_of(settings)),
        utility=downstream_use(bench, measured, split),
        run=record_run(
            bench,
            "audit",
            split,
            measured,
            [histogram(scores, groups) for scores in attacks],
            judged[shown].tolist(),
            ["member" if members[place] else "non-member" for place in shown],
            deciding.values[shown],
        ),
    )
    return AuditResult(report, _table(bench, split, judged, attacks, holdout))


def sources_of(settings: Settings) -> dict[str, str]:
    """Give the source of each side that has one of its own, or the one for all.

    Raises:
        MimiaError: A side has two sources, or none.
    """
    data = settings.data
    if data.canaries is not None:
        return sources_of(settings.model_copy(update={"data": _sides_of_canaries(data, data.canaries)}))
    own = {"members": data.members, "nonmembers": data.nonmembers, "reference": data.reference}
    given = {side: source for side, source in own.items() if source is not None}
    if (settings.target or settings.embeddings) and "members" not in given:
        raise MimiaError(
            "An audit of your own target needs to know its members: pass --members and --nonmembers, or use "
            "`mimia infer` where membership is unknown."
        )
    if not given:
        return {"source": data.source}
    named = data.source != DataSettings().source
    if named and set(given) == {"reference"}:
        return {"source": data.source, **given}
    if named:
        raise MimiaError(
            f"One source for all sides ({data.source}) and others for single sides ({', '.join(given)}) are given: "
            "leave out the one or the others."
        )
    for side in ("members", "nonmembers"):
        if side not in given:
            raise MimiaError(f"A source is given for some sides, but not for the {side}: pass --{side} too.")
    return {side: given[side] for side in SIDES if side in given}


def _sides_of_canaries(data: DataSettings, canaries: str) -> DataSettings:
    if data.members or data.nonmembers or not data.reference:
        raise MimiaError(
            "Canaries are both sides of an audit, and images like them are needed for the shadows: pass --canaries and "
            "--reference, and neither --members nor --nonmembers."
        )
    sides = {"members": str(Path(canaries, INCLUDED)), "nonmembers": str(Path(canaries, EXCLUDED))}
    return data.model_copy(update=sides | {"canaries": None})


def _sides(settings: Settings, loaded: LoadedImages) -> dict[str, Indices]:
    return {side: loaded.rows[source] for side, source in sources_of(settings).items()}


def _most_exposed_and_others(scores: Floats, members: Bools, nonmembers: Bools, seed: int) -> Indices:
    """Choose for the gallery the members of the highest scores, and non-members at random."""
    inside = np.flatnonzero(members)
    exposed = inside[np.argsort(-scores[inside], kind="stable")[:_SHOWN]]
    outside = np.flatnonzero(nonmembers)
    others = np.random.default_rng(seed).choice(outside, min(_SHOWN, len(outside)), replace=False)
    return np.concatenate([exposed, others])


def _table(
    bench: Bench, split: Split, judged: Indices, attacks: Sequence[Scores], holdout: Bools
) -> dict[str, Sequence[object]]:
    rows = split.rows[judged]
    columns: dict[str, Sequence[object]] = {
        "name": bench.images.names[rows].tolist(),
        "id": split.ids[judged].tolist(),
        "role": split.roles[judged].tolist(),
    }
    for scores in attacks:
        columns[f"{scores.attack} score"] = scores.values.tolist()
        p_values = image_p_values(scores, holdout).tolist()
        columns[f"{scores.attack} p-value"] = ["" if np.isnan(p) else p for p in p_values]
    return columns
