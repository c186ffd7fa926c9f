"""Attacks on the collected signals: arrays in, scores out."""

from mimia.attacks.base import Attack, Scores
from mimia.pipeline.collect import CollectedSignals
from mimia.pipeline.context import AuditContext


def score_images(context: AuditContext, signals: CollectedSignals) -> list[Scores]:
    """Fit each attack on the shadows, and score all evaluated images."""
    return [_fit_and_score(attack, signals) for attack in context.attacks.values()]


def _fit_and_score(attack: Attack, signals: CollectedSignals) -> Scores:
    inputs, shadows = signals.inputs, signals.pool
    if attack.requirements.online:  # its references were trained on halves of the evaluated images
        assert signals.online is not None
        inputs, shadows = signals.online, signals.online.references
    learning = attack.requirements.population and inputs.population is not None
    population = inputs.population.references if learning and inputs.population is not None else None
    return attack.fit(shadows, population=population).score(inputs)
