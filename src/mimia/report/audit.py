"""The report of an audit, and its table of scores."""

from collections.abc import Sequence

import numpy as np

from mimia.attacks.base import Scores
from mimia.data.splits import EvaluatedImages
from mimia.evaluation.comparison import compare
from mimia.evaluation.epsilon import Fixed, epsilon_lower_bound
from mimia.evaluation.evaluate import image_p_values, level_shares
from mimia.evaluation.intervals import CONFIDENCE
from mimia.evaluation.one_run import one_run_bound
from mimia.pipeline.outcome import Outcome
from mimia.pipeline.target import TrainedTarget
from mimia.pipeline.utility import downstream_use
from mimia.report.builder import Shown, absence_criterion, near_duplicate_pictures, record_run
from mimia.report.schema import AuditReport
from mimia.validity.verdict import Sides, judge

_SHOWN = 6  # of each group in the gallery


def audit_report(outcome: Outcome) -> AuditReport:
    """Return the report of an audit."""
    context, evaluated, deciding = outcome.context, outcome.split.evaluated, outcome.deciding
    on_sides, data = evaluated.on_sides, context.settings.data
    members, values = evaluated.members.mask[on_sides], deciding.values[on_sides]
    shares = level_shares([each.shadow_auc for each in outcome.scores])
    confidence = 1 - (1 - CONFIDENCE) * shares[outcome.scores.index(deciding)]  # of several bounds, all hold together
    canaries = data.canaries is not None
    one_source = isinstance(context.target, TrainedTarget) and "source" in context.loaded.rows
    sides = Sides("members", "non-members", (len(evaluated.members), len(evaluated.nonmembers)))
    groups = {"members": evaluated.members.mask, "non-members": evaluated.nonmembers.mask}
    return AuditReport(
        verdict=judge(outcome.evaluations, outcome.validity, sides, absence_criterion(outcome)),
        evaluations=outcome.evaluations,
        deciding=deciding.attack,
        comparisons={
            other.attack: compare(values, other.values[on_sides], members)
            for other in outcome.scores
            if other.attack != deciding.attack
        },
        validity=outcome.validity,
        near_duplicates=near_duplicate_pictures(context.images, outcome.near_duplicates),
        epsilon=epsilon_lower_bound(
            values[members], values[~members], Fixed(deciding.threshold), confidence=confidence
        ),
        one_run=one_run_bound(values, members, confidence=confidence) if canaries else None,
        drawn_at_random=canaries or one_source,
        utility=downstream_use(context, outcome.split, outcome.signals),
        run=record_run(outcome, "audit", groups, _shown(evaluated, deciding, context.settings.evaluation.seed)),
    )


def audit_table(outcome: Outcome) -> dict[str, Sequence[object]]:
    """Return the columns of ``scores.csv``."""
    evaluated = outcome.split.evaluated
    columns: dict[str, Sequence[object]] = {
        "name": evaluated.names.tolist(),
        "id": evaluated.ids.tolist(),
        "role": evaluated.roles.tolist(),
    }
    for scores in outcome.scores:
        columns[f"{scores.attack} score"] = scores.values.tolist()
        p_values = image_p_values(scores, evaluated.holdout.mask).tolist()
        columns[f"{scores.attack} p-value"] = ["" if np.isnan(p) else p for p in p_values]
    return columns


def _shown(evaluated: EvaluatedImages, deciding: Scores, seed: int) -> Shown:
    """Choose for the gallery the members of the highest scores, and non-members at random."""
    members, nonmembers = np.flatnonzero(evaluated.members.mask), np.flatnonzero(evaluated.nonmembers.mask)
    exposed = members[np.argsort(-deciding.values[members], kind="stable")[:_SHOWN]]
    others = np.random.default_rng(seed).choice(nonmembers, min(_SHOWN, len(nonmembers)), replace=False)
    shown = np.concatenate([exposed, others])
    groups = ["member"] * len(exposed) + ["non-member"] * len(others)
    return Shown(evaluated.rows[shown], groups, deciding.values[shown])
