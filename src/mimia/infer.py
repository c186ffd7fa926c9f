"""Membership unknown: which of these images was the model pre-trained on, and was it on any of them?"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mimia.attacks.selection import deciding as deciding_attack
from mimia.bench import prepare, refuse_too_few
from mimia.config import Settings
from mimia.errors import MimiaError
from mimia.evaluation.conformal import discoveries
from mimia.evaluation.evaluate import evaluate, image_p_values
from mimia.evaluation.verdict import Sides, judge
from mimia.gate import examine, settle_twins, show_twins
from mimia.measuring import attack_images, measure
from mimia.record import histogram, record_run
from mimia.report.schema import Candidate, InferenceReport
from mimia.splits import split_for_inference

_SHOWN = 12


@dataclass(frozen=True)
class InferenceResult:
    """A report, and the scores of every image.

    Attributes:
        report: The truth of the run.
        scores: Columns of ``scores.csv``.
    """

    report: InferenceReport
    scores: Mapping[str, Sequence[object]]


def infer(settings: Settings, candidates: str) -> InferenceResult:
    """Judge candidates by the last attack of the settings (or of the defaults, if all are run), against a reference.

    Args:
        settings: ``target`` or ``embeddings``, and ``data.reference`` are needed. The reference images must come from
            the same source as the candidates, and must not have been seen by the target.
        candidates: Source of the images to judge.

    Raises:
        MimiaError: The settings, the images or the checkpoint do not allow it.
    """
    if not (settings.target or settings.embeddings) or settings.data.reference is None:
        raise MimiaError(
            "An inference needs a target (--target or --embeddings) and images like the candidates that it has not "
            "seen (--reference)."
        )
    bench = prepare(settings, [candidates, settings.data.reference])
    sides = {"candidates": bench.loaded.rows[candidates], "reference": bench.loaded.rows[settings.data.reference]}
    split = split_for_inference(bench.images.ids, sides, settings.split, bench.wanted)
    split, twins = settle_twins(bench, split, "candidate", "holdout")
    refuse_too_few(split, "candidate", "holdout")
    measured = measure(bench, split)
    attacks = attack_images(bench, measured)
    name = deciding_attack(settings.attacks.names, bench.access, bench.attacks)
    deciding = next(scores for scores in attacks if scores.attack == name)

    judged = np.flatnonzero(split.judged)
    holdout, asked = split.of("holdout")[judged], split.of("candidate")[judged]
    p_values = image_p_values(deciding, holdout)
    listed = np.zeros(len(judged), dtype=bool)
    listed[asked] = discoveries(p_values[asked], settings.evaluation.false_discovery_rate)
    evaluation = evaluate(name, deciding.values, asked, settings.evaluation, deciding.threshold)
    validity = examine(bench, measured, split, deciding, "candidate", "holdout", twins)
    named = Sides("candidates", "reference images", (int(asked.sum()), int(holdout.sum())))

    order = np.flatnonzero(asked)[np.argsort(-deciding.values[asked], kind="stable")]
    names = bench.images.names[split.rows[judged]]
    groups = {"candidates": asked, "non-members": holdout}
    verdict = judge([evaluation], validity, named)
    count = f"{int(listed.sum()):,} of {int(asked.sum()):,} candidates are listed as members."
    report = InferenceReport(
        verdict=verdict if verdict.kind == "invalid" else replace(verdict, sentence=f"{verdict.sentence} {count}"),
        evaluation=evaluation,
        false_discovery_rate=settings.evaluation.false_discovery_rate,
        measured=validity,
        twins=show_twins(bench, split, twins),
        candidates=tuple(
            Candidate(
                name=str(names[place]),
                id=str(deciding.images[place]),
                score=float(deciding.values[place]),
                p_value=float(p_values[place]),
                listed=bool(listed[place]),
            )
            for place in order
        ),
        run=record_run(
            bench,
            f"infer --candidates {shlex.quote(candidates)}",
            split,
            measured,
            [histogram(scores, groups) for scores in attacks],
            judged[order[:_SHOWN]].tolist(),
            ["candidate"] * len(order[:_SHOWN]),
            deciding.values[order[:_SHOWN]],
        ),
    )
    columns: dict[str, Sequence[object]] = {
        "name": names[order].tolist(),
        "id": deciding.images[order].tolist(),
        "listed": listed[order].tolist(),
        "p-value": p_values[order].tolist(),
    }
    for scores in attacks:
        columns[f"{scores.attack} score"] = scores.values[order].tolist()
    return InferenceResult(report, columns)
