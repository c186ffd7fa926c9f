"""Error rates of the validity gate, on models and images that are drawn anew: the figures in docs/validity.md."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom, binomtest, kstest

from mimia.config.settings import EvaluationSettings, read_settings
from mimia.evaluation.conformal import conformal_p_values
from mimia.evaluation.evaluate import evaluate
from mimia.experiments.self_test import Bed, Prepare, cropped, re_encoded, sharpened
from mimia.jobs.results import AuditResult
from mimia.runtime.arrays import Floats

MakeBed = Callable[..., Bed]
QUICK = {"epochs": 200, "base_learning_rate": 0.016, "batch_size": 50}
# Targets, and audits of each: with photographs they take several times as long.
WITHOUT_LEAK = {"digits": (18, 12), "cifar10.parquet": (6, 6)}
PREPARED = {"digits": (3, 15), "cifar10.parquet": (1, 5)}
LEAKING = (3, 17)
MEMBERS, JUDGED = 100, 300


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def make_bed(stores: Path, data_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> MakeBed:
    def make(source: str, seed: int, recipe: dict[str, Any] | None = None) -> Bed:
        settings = read_settings(
            None,
            {
                "store": str(stores),
                "compute": {"device": "cpu", "threads": 1},
                "data": {"source": source if source == "digits" else str(data_file(source))},
                "split": {"seed": seed},
                "recipe": {"seed": seed} | (recipe or {}),
            },
        )
        return Bed(settings, tmp_path_factory.mktemp("bed"))

    return make


def unchanged(image: Image.Image) -> Image.Image:
    return image


def null_audit(bed: Bed, seed: int, prepare: Prepare = unchanged) -> AuditResult:
    """Audit sides that were drawn anew from what the target did not see."""
    unseen = np.concatenate([bed.unseen, bed.others])
    drawn = unseen[np.random.default_rng(seed).permutation(len(unseen))]
    members = bed.write(f"{prepare.__name__} members {seed}", drawn[:MEMBERS], prepare)
    return bed.audit(members, bed.write(f"{prepare.__name__} nonmembers {seed}", drawn[MEMBERS:JUDGED]))


def leak_audit(bed: Bed, seed: int) -> AuditResult:
    generator = np.random.default_rng(seed)
    members = bed.write(f"seen {seed}", generator.permutation(bed.seen)[:MEMBERS])
    others = np.concatenate([bed.unseen, bed.others])
    return bed.audit(members, bed.write(f"others {seed}", generator.permutation(others)[: JUDGED - MEMBERS]))


def counted(what: str, audits: Iterable[AuditResult]) -> Counter[str]:
    """Count verdicts, and print each count with its Clopper–Pearson interval."""
    kinds: Counter[str] = Counter(audit.report.verdict.kind for audit in audits)
    total = kinds.total()
    for kind, count in kinds.items():
        interval = binomtest(count, total).proportion_ci(method="exact")
        print(f"{what}: {count} of {total} {kind} ({interval.low:.3f} to {interval.high:.3f})")
    return kinds


def scores_of(audit: AuditResult) -> Floats:
    """Return the deciding attack's scores of all images, none of which the target saw."""
    return np.array(audit.scores[f"{audit.report.deciding} score"], dtype=np.float64)


@pytest.mark.slow
def test_audits_and_inferences_without_a_leak(make_bed: MakeBed) -> None:
    bed = make_bed("digits", 0, QUICK)
    audits = [null_audit(bed, seed) for seed in range(4)]
    assert counted("null", audits)["leaks"] <= binom.ppf(0.999, 4, 0.01)

    # Scores that a real model gives to images that it did not see: candidates and holdout are drawn anew.
    scores = scores_of(audits[0])
    candidates = np.arange(len(scores)) < 100
    generator = np.random.default_rng(0)
    draws = [generator.permutation(scores) for _ in range(500)]
    of_an_image = [conformal_p_values(drawn[:1], drawn[1:])[0] for drawn in draws]
    of_a_set = [evaluate("attack", drawn, candidates, EvaluationSettings()).p_value for drawn in draws]
    assert kstest(of_an_image, "uniform").pvalue > 0.01
    assert kstest(of_a_set, "uniform").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("source", WITHOUT_LEAK)
def test_audits_without_a_leak_find_one_in_twenty_at_most(make_bed: MakeBed, source: str) -> None:
    targets, audits = WITHOUT_LEAK[source]
    beds = (make_bed(source, target, QUICK) for target in range(targets))
    kinds = counted(f"{source}, null", (null_audit(bed, seed) for bed in beds for seed in range(audits)))
    assert kinds["leaks"] <= 0.05 * kinds.total()


@pytest.mark.slow
@pytest.mark.parametrize("source", PREPARED)
@pytest.mark.parametrize("prepare", [sharpened, re_encoded, cropped])
def test_every_preparation_leak_is_invalid(make_bed: MakeBed, source: str, prepare: Prepare) -> None:
    targets, audits = PREPARED[source]
    beds = (make_bed(source, target, QUICK) for target in range(targets))
    found = (null_audit(bed, seed, prepare) for bed in beds for seed in range(audits))
    assert set(counted(f"{source}, {prepare.__name__}", found)) == {"invalid"}


@pytest.mark.slow
def test_every_real_leak_is_found(make_bed: MakeBed) -> None:
    targets, audits = LEAKING
    beds = (make_bed("digits", target) for target in range(targets))
    found = (leak_audit(bed, seed) for bed in beds for seed in range(audits))
    assert set(counted("digits, leak", found)) == {"leaks"}
