"""How often the gate is wrong, on models and images that are drawn anew.

`make test` runs a few audits; `make test-slow` runs as many as the figures in docs/validity.md rest on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from mimia.config import Settings, read_settings
from mimia.self_test import Bed, Prepare, cropped, re_encoded, sharpened

MakeBed = Callable[..., Bed]
QUICK = {"epochs": 200, "base_learning_rate": 0.016, "batch_size": 50}


@pytest.fixture(scope="module")
def make_bed(tmp_path_factory: pytest.TempPathFactory) -> MakeBed:
    store = str(tmp_path_factory.mktemp("store"))

    def make(seed: int, recipe: dict[str, Any] | None = None) -> Bed:
        settings: Settings = read_settings(
            None,
            {
                "store": store,
                "compute": {"device": "cpu", "threads": 1},
                "split": {"seed": seed},
                "recipe": {"seed": seed} | (recipe or {}),
            },
        )
        return Bed(settings, Path(tmp_path_factory.mktemp("bed")))

    return make


def null_audit(bed: Bed, seed: int, prepare: Prepare = lambda image: image) -> str:
    """Audit sides that were drawn anew from what the target did not see."""
    unseen = np.concatenate([bed.unseen, bed.others])
    drawn = unseen[np.random.default_rng(seed).permutation(len(unseen))]
    members = bed.write(f"members {prepare} {seed}", drawn[:200], prepare)
    return bed.audit(members, bed.write(f"nonmembers {prepare} {seed}", drawn[200:])).report.verdict.kind


def leak_audit(bed: Bed, seed: int) -> str:
    generator = np.random.default_rng(seed)
    seen, others = generator.permutation(len(bed.seen))[:150], generator.permutation(len(bed.others))[:300]
    members = bed.write(f"seen {seed}", bed.seen[seen])
    return bed.audit(members, bed.write(f"not seen {seed}", bed.others[others])).report.verdict.kind


def test_few_audits_without_a_leak_find_none(make_bed: MakeBed) -> None:
    bed = make_bed(0, QUICK)
    kinds = [null_audit(bed, seed) for seed in range(4)]
    assert kinds.count("leaks") <= binom.ppf(0.999, 4, 0.05)


@pytest.mark.slow
def test_audits_without_a_leak_find_one_in_twenty_at_most(make_bed: MakeBed) -> None:
    beds = [make_bed(target, QUICK) for target in range(20)]
    kinds = [null_audit(bed, seed) for bed in beds for seed in range(10)]
    print({kind: kinds.count(kind) for kind in set(kinds)})
    assert kinds.count("leaks") <= 10


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [sharpened, re_encoded, cropped])
def test_every_preparation_leak_is_invalid(make_bed: MakeBed, prepare: Prepare) -> None:
    beds = [make_bed(target, QUICK) for target in range(5)]
    assert {null_audit(bed, seed, prepare) for bed in beds for seed in range(10)} == {"invalid"}


@pytest.mark.slow
def test_every_real_leak_is_found(make_bed: MakeBed) -> None:
    beds = [make_bed(target) for target in range(5)]
    assert {leak_audit(bed, seed) for bed in beds for seed in range(10)} == {"leaks"}
