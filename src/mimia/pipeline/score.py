"""Attacks on the collected signals: arrays in, scores out."""

from mimia.attacks.base import Attack, Scores
from mimia.data.splits import Split
from mimia.evaluation.conformal import conformal_p_values
from mimia.evaluation.cross_conformal import CrossConformal, cross_conformal
from mimia.pipeline.collect import CollectedSignals
from mimia.pipeline.context import AuditContext

_DECIDING = "calibrated"  # where no shadow shows which attack does best


def score_images(context: AuditContext, split: Split, signals: CollectedSignals) -> list[Scores]:
    """Fit each attack on the shadows, or without any on the holdout, and score all evaluated images."""
    attacks, holdout = context.attacks.values(), split.evaluated.holdout.mask
    if signals.models.shadows:
        return [_fit_and_score(attack, signals) for attack in attacks]
    scores = [
        _fit_and_score(attack, signals)
        if attack.requirements.online
        else attack.fit_nonmembers(signals.inputs.of_images(holdout)).score(signals.inputs)
        for attack in attacks
    ]
    return sorted(scores, key=lambda each: each.attack == _DECIDING)  # the last one decides


def _fit_and_score(attack: Attack, signals: CollectedSignals) -> Scores:
    inputs, shadows = signals.inputs, signals.pool
    if attack.requirements.online:  # its references were trained on halves of the evaluated images
        assert signals.online is not None
        inputs, shadows = signals.online, signals.online.references
    learning = attack.requirements.population and inputs.population is not None
    population = inputs.population.references if learning and inputs.population is not None else None
    return attack.fit(shadows, population=population).score(inputs)


def rank_candidates(context: AuditContext, split: Split, signals: CollectedSignals, deciding: Scores) -> CrossConformal:
    """Return the candidates' p-values by the attack that decides, among all reference images that can judge them.

    These are the shadow pool and the holdout, and the population if the attack does not learn from it. The references
    of an online attack saw half of the candidates: only the holdout, of which they saw half too, can judge those.
    """
    candidates, attack = split.evaluated.candidates.mask, context.attacks[deciding.attack]
    inputs, judging = signals.inputs, signals.judging
    if attack.requirements.online or judging is None:
        others = deciding.values[split.evaluated.holdout.mask]
        return CrossConformal(conformal_p_values(deciding.values[candidates], others), len(others))
    names = set(attack.requirements.signals)
    population = inputs.population
    if not attack.requirements.population and population is not None and names <= population.target.values.keys():
        judging = judging.joined(population, names)
    return cross_conformal(attack, inputs.of_images(candidates), judging)
