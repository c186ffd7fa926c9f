"""The report of an inference, and its table of scores."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mimia.evaluation.cross_conformal import CrossConformal
from mimia.evaluation.intervals import p_value_text
from mimia.pipeline.outcome import Outcome
from mimia.report.builder import Shown, absence_criterion, near_duplicate_pictures, record_run
from mimia.report.schema import Candidate, InferenceReport
from mimia.validity.verdict import Sides, judge

_SHOWN = 12  # in the gallery


def inference_report(outcome: Outcome, ranked: CrossConformal, command: str) -> InferenceReport:
    """Return the report of an inference, which ``mimia`` and this command repeat.

    Args:
        outcome: The finished run.
        ranked: The candidates' p-values.
        command: Subcommand of the command line.
    """
    context, evaluated, deciding = outcome.context, outcome.split.evaluated, outcome.deciding
    rate = context.settings.evaluation.false_discovery_rate
    candidates, holdout = evaluated.candidates, evaluated.holdout
    listed = ranked.q_values <= rate
    scores = deciding.values[candidates.mask]
    order = np.lexsort((-scores, ranked.p_values))
    shown = order[:_SHOWN]
    verdict = judge(
        outcome.evaluations,
        outcome.validity,
        Sides("candidates", "reference images", (len(candidates), len(holdout))),
        absence_criterion(outcome),
    )
    if verdict.kind != "invalid":
        smallest = p_value_text(float(ranked.p_values.min()))
        count = (
            f"{int(listed.sum()):,} of {len(candidates):,} candidates are listed as members; the smallest p-value of a "
            f"candidate is {smallest}, among {ranked.judging:,} reference images."
        )
        verdict = replace(verdict, sentence=f"{verdict.sentence} {count}")
    groups = {"candidates": candidates.mask, "non-members": holdout.mask}
    return InferenceReport(
        verdict=verdict,
        evaluation=outcome.evaluations[0],
        false_discovery_rate=rate,
        judging=ranked.judging,
        validity=outcome.validity,
        near_duplicates=near_duplicate_pictures(context.images, outcome.near_duplicates),
        candidates=tuple(
            Candidate(
                name=str(candidates.names[row]),
                id=str(candidates.ids[row]),
                score=float(scores[row]),
                p_value=float(ranked.p_values[row]),
                q_value=float(ranked.q_values[row]),
                listed=bool(listed[row]),
            )
            for row in order
        ),
        run=record_run(
            outcome, command, groups, Shown(candidates.rows[shown], ["candidate"] * len(shown), scores[shown])
        ),
    )


def inference_table(outcome: Outcome, report: InferenceReport) -> dict[str, Sequence[object]]:
    """Return the columns of ``scores.csv``, the candidates in the order of the report."""
    candidates = outcome.split.evaluated.candidates
    places = {image: place for place, image in enumerate(candidates.ids)}
    order = [places[candidate.id] for candidate in report.candidates]
    columns: dict[str, Sequence[object]] = {
        "name": [candidate.name for candidate in report.candidates],
        "id": [candidate.id for candidate in report.candidates],
        "listed": [candidate.listed for candidate in report.candidates],
        "p-value": [candidate.p_value for candidate in report.candidates],
        "q-value": [candidate.q_value for candidate in report.candidates],
    }
    return columns | {f"{each.attack} score": each.values[candidates.mask][order].tolist() for each in outcome.scores}
