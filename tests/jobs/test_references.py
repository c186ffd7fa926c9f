"""Audits by models that saw none of the images, above all the one that the target was continued from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from mimia.config.settings import read_settings
from mimia.data.imageset import ImageSet
from mimia.jobs.audit import audit
from mimia.jobs.infer import infer
from mimia.jobs.results import AuditResult
from mimia.models.checkpoints import native
from mimia.models.mae import of_decoder
from mimia.pretraining.command import pretrain
from mimia.runtime.errors import MimiaError

pytestmark = pytest.mark.usefixtures("quick_network")
Run = Callable[..., AuditResult]
NANO: dict[str, Any] = {"preset": "mae-nano", "patch_size": 4, "mask_ratio": 0.5, "batch_size": 50}
SIZES = {"public": 300, "private": 50, "others": 50, "few": 150, "unseen": 700}
COMMON: dict[str, Any] = {"signals": {"draws": 4}, "compute": {"device": "cpu", "threads": 1}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store_with_digits: Callable[[Path], Path], digits: ImageSet) -> Path:
    """Folders of digits that share no image, and a store."""
    root = tmp_path_factory.mktemp("references")
    store_with_digits(root / "store")
    rows = np.random.default_rng(1).permutation(len(digits))
    for (name, _), chosen in zip(SIZES.items(), np.split(rows, np.cumsum([*SIZES.values()])), strict=False):
        (root / name).mkdir()
        for row in chosen:
            Image.fromarray(digits.pixels[row, 0]).save(root / name / f"{row:04d}.png")
    return root


def pretrained(root: Path, name: str, images: str, **recipe: Any) -> Path:
    values = {"store": str(root / "store"), "data": {"source": str(root / images)}, "recipe": NANO | recipe} | COMMON
    return pretrain(read_settings(None, values), root / name)


@pytest.fixture(scope="module")
def base(root: Path) -> Path:
    """A public model."""
    return pretrained(root, "base", "public", epochs=40)


@pytest.fixture(scope="module")
def continued(root: Path, base: Path) -> Path:
    """A private model that was continued from it on few images of its own."""
    return pretrained(root, "continued", "private", epochs=40, start_from=str(base))


@pytest.fixture(scope="module")
def run(root: Path, continued: Path, base: Path) -> Run:
    def audited(target: object = continued, *, nonmembers: str = "unseen", **changes: Any) -> AuditResult:
        sides = {"members": str(root / "private"), "nonmembers": str(root / nonmembers)}
        values = {"store": str(root / "store"), "references": [str(base)], **COMMON, **changes}
        return audit(target, **sides, settings=values)

    return audited


@pytest.fixture(scope="module")
def by_base(run: Run) -> AuditResult:
    return run()


def auc_of(result: AuditResult, attack: str) -> float:
    found = next(each for each in result.report.evaluations if each.attack == attack)
    assert found.auc.value is not None
    return found.auc.value


def test_model_that_the_target_was_continued_from_shows_the_leak_without_any_training(
    by_base: AuditResult, run: Run, counted_steps: Any
) -> None:
    with counted_steps() as count:
        result = run()
    assert count == [0]
    assert result.verdict.kind == "leaks"
    assert result.report.deciding == "calibrated"
    assert auc_of(result, "calibrated") > auc_of(result, "threshold") + 0.1
    assert [each.name for each in result.report.run.models] == ["target", "reference 1"]
    assert [each.model for each in result.report.validity.controls] == ["untrained model"]
    assert "ensemble" in {each.attack for each in result.report.run.attacks_not_run}
    assert result.report.evaluations == by_base.report.evaluations


def test_auc_is_that_of_the_difference_of_log_errors(
    by_base: AuditResult, base: Path, continued: Path, digits: ImageSet
) -> None:
    """By definition: the models' own losses under the same masks, without any of the pipeline."""
    on_sides = [place for place, role in enumerate(by_base.scores["role"]) if role != "holdout"]
    names = [str(by_base.scores["name"][place]) for place in on_sides]
    rows = np.array([int(Path(name).stem) for name in names])
    ids = np.array(by_base.scores["id"])[on_sides]
    logs = []
    for path in (base, continued):
        model = native.load(path)
        masks = torch.from_numpy(model.spec.scoring_masks(ids, 4, 0))
        with torch.inference_mode():
            logs.append(model.distances(torch.from_numpy(digits.pixels[rows]), masks).mean(dim=1).log())
    truth = [by_base.scores["role"][place] == "member" for place in on_sides]
    expected = roc_auc_score(truth, (logs[0] - logs[1]).numpy())
    assert auc_of(by_base, "calibrated") == pytest.approx(expected, abs=1e-4)


def test_threshold_calls_few_of_the_holdout_members(by_base: AuditResult) -> None:
    found = next(each for each in by_base.report.evaluations if each.attack == "calibrated")
    assert found.threshold is not None
    holdout = [
        score
        for score, role in zip(by_base.scores["calibrated score"], by_base.scores["role"], strict=True)
        if role == "holdout"
    ]
    assert holdout
    assert np.mean(np.array(holdout, dtype=float) >= found.threshold) <= 0.01
    assert found.shadow_auc is None


def test_shadows_that_are_asked_for_are_trained_beside_the_references(run: Run) -> None:
    result = run(shadows={"count": 2}, recipe={"epochs": 30})
    assert [each.name for each in result.report.run.models] == ["target", "shadow 1", "shadow 2", "reference 1"]
    assert {each.attack for each in result.report.evaluations} == {"threshold", "calibrated", "ensemble"}
    controls = [each.model for each in result.report.validity.controls]
    assert controls == ["shadow 1", "shadow 2", "reference 1 (sign reversed)", "untrained model"]
    assert all(each.shadow_auc is not None for each in result.report.evaluations)
    assert result.report.validity.likeness


@pytest.mark.parametrize("epochs", [120, 400])
def test_reference_that_saw_the_nonmembers_is_not_taken_for_a_leak(run: Run, root: Path, epochs: int) -> None:
    """What it knows better than the target looks like membership of the other side."""
    elsewhere = pretrained(root, f"elsewhere {epochs}", "others", epochs=60)
    overfit = pretrained(root, f"overfit {epochs}", "few", epochs=epochs)
    result = run(elsewhere, references=[str(overfit)], nonmembers="few")
    assert auc_of(result, "calibrated") > 0.6
    assert result.verdict.kind == ("inconclusive" if epochs == 120 else "invalid")


def test_references_alone_never_show_that_there_is_no_leak(run: Run, root: Path, base: Path) -> None:
    elsewhere = pretrained(root, "continued elsewhere", "others", epochs=40, start_from=str(base))
    result = run(elsewhere)
    assert result.verdict.kind == "inconclusive"
    assert abs(auc_of(result, "calibrated") - 0.5) < 0.12


def test_inference_finds_members_by_the_public_model(root: Path, continued: Path, base: Path) -> None:
    settings = {"store": str(root / "store"), **COMMON}
    found = infer(
        continued,
        candidates=str(root / "private"),
        reference=str(root / "unseen"),
        references=[native.load(base)],
        settings=settings,
    )
    assert found.verdict.kind == "leaks"
    assert found.report.run.counts == {"candidates": 50, "holdout": 700}
    others = infer(
        continued,
        candidates=str(root / "others"),
        reference=str(root / "unseen"),
        references=[base],
        settings=settings,
    )
    assert others.verdict.kind == "inconclusive"


def test_encoder_alone_gets_the_same_decoder_as_its_references(run: Run, continued: Path, tmp_path: Path) -> None:
    weights = {name: value for name, value in native.load(continued).state_dict().items() if not of_decoder(name)}
    path = tmp_path / "encoder.pth"
    torch.save({"model": weights}, path)
    spec = native.load_config(continued).spec
    stated = {"mean": spec.mean, "std": spec.std, "heads": 4, "mask_ratio": 0.5, "target_space": "normalised"}
    result = run(path, checkpoint=stated, decoder={"epochs": 30})
    assert [each.name for each in result.report.run.models] == ["target", "reference 1"]
    assert not any("--references" in each for each in result.report.run.notes)
    assert auc_of(result, "calibrated") > 0.6


def test_reference_that_does_not_compare_is_refused(run: Run, root: Path, continued: Path, tmp_path: Path) -> None:
    other = pretrained(root, "other patches", "others", epochs=1, patch_size=2)
    normalised = pretrained(root, "normalised", "others", epochs=1, patch_normalised=True)
    family = pretrained(root, "family", "others", epochs=1, preset="simmim-nano", cell=1)
    weights = {name: value for name, value in native.load(continued).state_dict().items() if not of_decoder(name)}
    encoder = tmp_path / "encoder.pth"
    torch.save({"model": weights}, encoder)
    for reference, message in {
        str(other): "its patch size is 2, and the target's is 4",
        str(normalised): "its target space is patch-normalised, and the target's is normalised",
        str(family): "its family is simmim, and the target's is mae",
        str(continued): "is the target itself",
        "nowhere": "There is no checkpoint at nowhere",
        str(encoder): "has no decoder, and the target is audited with its own",
    }.items():
        with pytest.raises(MimiaError, match=message):
            run(references=[reference], checkpoint={"heads": 4})


def test_run_without_any_model_to_compare_with_is_refused(run: Run) -> None:
    with pytest.raises(MimiaError, match=r"raise shadows.count \(--shadows\), or pass --references"):
        run(references=[], shadows={"count": 0})
    with pytest.raises(MimiaError, match=r"'ensemble' needs 2 shadow models and has 0: raise shadows.count"):
        run(attacks={"names": ["ensemble"]})


def test_shadows_continue_from_the_model_that_the_target_was_continued_from(run: Run, base: Path) -> None:
    same = run(shadows={"count": 2}, references=[], recipe=NANO | {"epochs": 60, "start_from": str(base)})
    assert auc_of(same, "calibrated") > 0.8
