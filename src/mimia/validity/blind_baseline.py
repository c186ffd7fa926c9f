"""The blind baseline: classifiers that see no model, and try to tell members from non-members by the images alone.

If they succeed, the two sides differ by more than membership (by their preparation, say), and an attack's success
proves nothing (Das et al., arXiv 2406.16201).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold

from mimia.config.settings import EvaluationSettings
from mimia.data.pixel_features import pixel_features
from mimia.evaluation.auc_interval import log_odds_interval, pairs_interval
from mimia.evaluation.evaluate import Evaluation, evaluate
from mimia.evaluation.intervals import CONFIDENCE, Estimate
from mimia.evaluation.roc import auc_variance, placements
from mimia.runtime.arrays import Bools, Floats, Indices, Pixels
from mimia.runtime.seeds import derived_seed, torch_generator
from mimia.validity.pixel_network import centres, fit_network, log_odds

_FOLDS = 5

Predict = Callable[[Indices], Floats]
"""From rows to log-odds."""


@dataclass(frozen=True)
class BlindGuess:
    """Cross-validated scores of a classifier that sees no model.

    Attributes:
        name: What it sees: ``pixel features`` or ``pixels``.
        scores: Log-odds of being a member, by a classifier that was not fitted to the image, (N,).
        folds: Which of the folds' classifiers scored the image, (N,).
    """

    name: str
    scores: Floats
    folds: Indices


def blind_guesses(pixels: Pixels, facts: Floats, is_member: Bools, seed: int) -> list[BlindGuess]:
    """Cross-validate two classifiers: gradient boosting on pixel features and file metadata, and a network on pixels.

    Args:
        pixels: uint8, raw, (N, C, H, W).
        facts: Metadata of the image files, (N, facts).
        is_member: (N,); four or more of each side.
        seed: Seed of folds and classifiers.
    """
    features = np.column_stack([pixel_features(pixels), facts])
    images = centres(pixels)

    def boosting(rows: Indices, fold: int) -> Predict:
        classifier = HistGradientBoostingClassifier(
            max_iter=100,
            max_leaf_nodes=8,
            learning_rate=0.05,
            min_samples_leaf=5,  # with the default of 20, there is no split of fewer than 40 images
            max_features=0.5,
            early_stopping=False,
            random_state=derived_seed(seed, "boosting", fold) % 2**32,
        )
        classifier.fit(features[rows], is_member[rows])
        return lambda rows: classifier.decision_function(features[rows])

    def network(rows: Indices, fold: int) -> Predict:
        module = fit_network(images, is_member, rows, torch_generator("cpu", seed, "network", fold))
        return lambda rows: log_odds(module, images[rows])

    smaller = int(min(is_member.sum(), (~is_member).sum()))
    splits = StratifiedKFold(min(_FOLDS, smaller // 2), shuffle=True, random_state=seed)
    fits = {"pixel features": boosting, "pixels": network}
    scores, folds = {name: np.zeros(len(is_member)) for name in fits}, np.zeros(len(is_member), dtype=np.intp)
    for fold, (fitted, held_out) in enumerate(splits.split(is_member, is_member)):
        folds[held_out] = fold
        for name, fit in fits.items():
            scores[name][held_out] = fit(fitted, fold)(held_out)
    return [BlindGuess(name, scores[name], folds) for name in fits]


def blind_auc(guess: BlindGuess, is_member: Bools, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of the folds' AUCs, with its interval.

    The AUC of all folds together is biased where there is nothing to find: a fold with fewer members was held out from
    a training with more of them (Parker et al., BMC Bioinformatics 8:326, 2007). The variance is DeLong's, computed
    from the placements within folds, times 1 + K / (K − 1) for K folds, as these are not independent (Nadeau and
    Bengio, Machine Learning 52, 2003, equation 9): if two folds are alike by chance, the classifiers of both gain.

    Args:
        guess: For all images.
        is_member: (N,).
        confidence: Of the interval, two-sided.
    """
    in_folds = [guess.folds == fold for fold in np.unique(guess.folds)]
    parts = [placements(guess.scores[is_member & fold], guess.scores[~is_member & fold]) for fold in in_folds]
    auc = float(np.mean([of_members.mean() for of_members, _ in parts]))
    of_members, of_nonmembers = (np.concatenate(side) for side in zip(*parts, strict=True))
    dependence = 1 + len(parts) / (len(parts) - 1)
    variance = dependence * auc_variance(of_members, of_nonmembers)
    if auc in (0.0, 1.0):
        return Estimate(auc, *pairs_interval(auc, min(len(of_members), len(of_nonmembers)), confidence))
    return Estimate(auc, *log_odds_interval(auc, float(norm.ppf((1 + confidence) / 2)) * math.sqrt(variance)))


def evaluate_guesses(
    guesses: Sequence[BlindGuess], is_member: Bools, settings: EvaluationSettings
) -> tuple[Evaluation, ...]:
    """Evaluate classifiers as attacks are evaluated, but with `blind_auc`."""
    return tuple(
        replace(
            evaluate(f"blind {guess.name}", guess.scores, is_member, settings),
            auc=blind_auc(guess, is_member),
        )
        for guess in guesses
    )


def sides_differ(guesses: Sequence[BlindGuess], is_member: Bools, level: float) -> bool:
    """Return whether a classifier tells the sides apart, each by a one-sided test of this level."""
    return any((blind_auc(guess, is_member, 1 - 2 * level).low or 0) > 0.5 for guess in guesses)
