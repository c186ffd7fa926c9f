import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from mimia.config.settings import Settings, read_settings
from mimia.data.imageset import ImageSet
from mimia.jobs.infer import infer
from mimia.jobs.results import InferenceResult
from mimia.pretraining.command import TRAINED_ON, pretrain
from mimia.runtime.arrays import Bools, Indices, Pixels
from mimia.runtime.errors import MimiaError

pytestmark = pytest.mark.usefixtures("quick_network")
RATE = 0.1
HOLDOUT = 150


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store_with_digits: Callable[[Path], Path]) -> Path:
    root = tmp_path_factory.mktemp("inference")
    store_with_digits(root / "store")
    return root


@pytest.fixture(scope="module")
def target(root: Path) -> Path:
    """A model that was trained on 100 digits until it remembered them (area .96)."""
    return pretrain(settings_of(root, split={"n_members": 100}), root / "target")


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> Pixels:
    return digits.pixels


@pytest.fixture(scope="module")
def members(target: Path) -> list[str]:
    with (target / TRAINED_ON).open(newline="") as file:
        return [Path(row["name"]).name for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def folders(root: Path, digits: Pixels, members: list[str]) -> dict[str, str]:
    """Candidates, half of them members; as many that are none; and reference images."""
    seen = np.array([int(name.removesuffix(".png")) for name in members])
    unseen = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(digits)), seen))
    mixed = np.concatenate([seen, unseen[:100]])
    for name, rows in (("mixed", mixed), ("unseen", unseen[100:300]), ("reference", unseen[300:600])):
        write_images(root / name, digits, rows)
    return {name: str(root / name) for name in ("mixed", "unseen", "reference")}


@pytest.fixture(scope="module")
def inferred(root: Path, target: Path, folders: dict[str, str]) -> InferenceResult:
    return infer(candidates=folders["mixed"], settings=question(root, target, folders["reference"]))


@pytest.fixture
def ask(root: Path, target: Path, folders: dict[str, str]) -> Callable[..., InferenceResult]:
    def run(candidates: str, **changes: Any) -> InferenceResult:
        return infer(candidates=candidates, settings=question(root, target, folders["reference"], **changes))

    return run


def settings_of(root: Path, **changes: Any) -> Settings:
    leaky = {
        "store": str(root / "store"),
        "recipe": {
            "preset": "mae-nano",
            "patch_size": 4,
            "mask_ratio": 0.5,
            "epochs": 250,
            "batch_size": 50,
            "base_learning_rate": 0.016,
        },
        "signals": {"draws": 8},
        "evaluation": {"false_discovery_rate": RATE},
        "compute": {"device": "cpu", "threads": 1},
    }
    return read_settings(None, leaky | changes)


def question(root: Path, model: Path, reference: str, **changes: Any) -> Settings:
    split = {"n_holdout": HOLDOUT, "shadow_size": 50}
    return settings_of(root, **({"target": str(model), "data": {"reference": reference}, "split": split} | changes))


def write_images(folder: Path, pixels: Pixels, rows: Indices, brighter: int = 0) -> None:
    folder.mkdir()
    for row in rows:
        image = Image.fromarray(pixels[row, 0]).point(lambda value: value + brighter)
        image.convert("RGB").save(folder / f"{row:04d}.png")


def listed(result: InferenceResult) -> Bools:
    return np.array([candidate.listed for candidate in result.report.candidates])


def test_list_has_members_and_few_others(inferred: InferenceResult, members: list[str]) -> None:
    names = [candidate.name for candidate in inferred.report.candidates if candidate.listed]
    false = len(set(names) - set(members))
    assert len(names) - false >= 50
    # An entry is false with a chance of at most RATE. More than that is refuted where so many false ones among so
    # many would come about by chance in less than one of a thousand lists.
    assert binomtest(false, len(names), RATE, alternative="greater").pvalue > 0.001


def test_list_is_the_longest_that_benjamini_and_hochberg_allow(inferred: InferenceResult) -> None:
    candidates = inferred.report.candidates
    allowed = [place for place, each in enumerate(candidates, 1) if each.p_value <= RATE * place / len(candidates)]
    assert listed(inferred).tolist() == [place <= max(allowed) for place in range(1, len(candidates) + 1)]


def test_candidates_stand_in_the_order_of_their_p_values(inferred: InferenceResult) -> None:
    candidates = inferred.report.candidates
    p_values = [candidate.p_value for candidate in candidates]
    assert p_values == sorted(p_values)
    scores_of_equal = [candidate.score for candidate in candidates if candidate.p_value == p_values[0]]
    assert scores_of_equal == sorted(scores_of_equal, reverse=True)
    assert inferred.report.judging == 300 - 50  # all reference images but those that the attack learns from
    ranks = np.array(p_values) * (inferred.report.judging + 1)
    np.testing.assert_allclose(ranks, ranks.round(), atol=1e-9)
    assert ranks.min().round() >= 1


def test_columns_say_what_the_report_says(inferred: InferenceResult) -> None:
    report, columns = inferred.report, inferred.scores
    assert report.evaluation.attack == "ensemble"
    assert columns["name"] == [candidate.name for candidate in report.candidates]
    assert columns["listed"] == listed(inferred).tolist()
    assert columns["p-value"] == [candidate.p_value for candidate in report.candidates]
    assert columns["ensemble score"] == [candidate.score for candidate in report.candidates]
    assert len(columns["threshold score"]) == 200


def test_model_that_remembers_half_of_the_candidates_leaks(inferred: InferenceResult) -> None:
    report = inferred.report
    assert report.verdict.kind == "leaks"
    assert f"{listed(inferred).sum()} of 200 candidates are listed" in report.verdict.sentence
    parts = {"candidates": 200, "images of shadows": 100, "holdout": HOLDOUT, "population": 50}
    assert report.run.counts == parts
    assert report.evaluation.p_value < 1e-6


@pytest.mark.slow
def test_candidates_without_a_member_are_called_a_leak_no_more_often_than_the_level_says(
    root: Path, target: Path, digits: Pixels, members: list[str]
) -> None:
    seen = np.array([int(name.removesuffix(".png")) for name in members])
    alarms, p_values = 0, []
    for seed in range(8):  # all draws from the first on: none is left out for what came of it
        unseen = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(digits)), seen))
        folder = root / f"draw {seed}"
        folder.mkdir()
        write_images(folder / "candidates", digits, unseen[:200])
        write_images(folder / "reference", digits, unseen[200:500])
        report = infer(
            candidates=str(folder / "candidates"), settings=question(root, target, str(folder / "reference"))
        ).report
        alarms += report.verdict.kind == "leaks"
        p_values.append([candidate.p_value for candidate in report.candidates])
    assert binomtest(alarms, 8, 0.01, alternative="greater").pvalue > 0.01  # one is within chance, two are not
    for level in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        below = np.mean(np.array(p_values) <= level, axis=1)
        print(f"p ≤ {level}: {below.mean():.4f} of the candidates")
        assert below.mean() < level + 3 * below.std(ddof=1) / np.sqrt(len(below)) + 0.002


def test_single_candidate_is_judged_by_all_reference_images(
    ask: Callable[..., InferenceResult], inferred: InferenceResult, folders: dict[str, str], tmp_path: Path
) -> None:
    by_name = {candidate.name: candidate for candidate in inferred.report.candidates}
    order = sorted(by_name.values(), key=lambda candidate: candidate.p_value)
    for candidate in (order[0], order[-1]):
        folder = tmp_path / candidate.name
        folder.mkdir()
        (folder / candidate.name).write_bytes((Path(folders["mixed"]) / candidate.name).read_bytes())
        report = ask(str(folder)).report
        (alone,) = report.candidates
        assert alone.q_value == alone.p_value
        assert report.evaluation.p_value == min(alone.p_value, report.evaluation.p_value)
        assert (report.verdict.kind == "leaks") == (2 * report.evaluation.p_value < 0.01)
        assert report.verdict.kind in ("leaks", "inconclusive")
    assert order[0].p_value < 0.01 < order[-1].p_value


def test_attack_is_chosen_on_the_shadows_whatever_the_order_of_the_names(
    ask: Callable[..., InferenceResult], folders: dict[str, str]
) -> None:
    first, second = (
        ask(folders["mixed"], attacks={"names": names})
        for names in (["calibrated", "threshold"], ["threshold", "calibrated"])
    )
    assert first.report.evaluation == second.report.evaluation
    (other,) = {"calibrated", "threshold"} - {first.report.evaluation.attack}
    alone = ask(folders["mixed"], attacks={"names": [other]})
    assert (first.report.evaluation.shadow_auc or 0) >= (alone.report.evaluation.shadow_auc or 0) > 0.5
    scores = first.scores[f"{first.report.evaluation.attack} score"]
    assert scores == [candidate.score for candidate in first.report.candidates]


def test_online_attacks_judge_candidates_that_their_models_were_trained_on(
    ask: Callable[..., InferenceResult], folders: dict[str, str], members: list[str]
) -> None:
    shadows = {"count": 2, "online": 4, "epochs": 150}
    report = ask(folders["mixed"], shadows=shadows, attacks={"names": ["rmia-online"]}).report
    assert report.evaluation.attack == "rmia-online"
    assert [model.images for model in report.run.models if model.name.startswith("online")] == [
        (200 + HOLDOUT) // 2
    ] * 4
    names = [candidate.name for candidate in report.candidates if candidate.listed]
    false = len(set(names) - set(members))
    assert len(names) - false >= 50
    assert binomtest(false, len(names), RATE, alternative="greater").pvalue > 0.001


def test_image_on_both_sides_stays_a_candidate(
    ask: Callable[..., InferenceResult], folders: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "candidates").mkdir()
    for path in [*sorted(Path(folders["unseen"]).iterdir())[:20], *sorted(Path(folders["reference"]).iterdir())[:3]]:
        (tmp_path / "candidates" / path.name).write_bytes(path.read_bytes())
    run = ask(
        str(tmp_path / "candidates"), split={"n_holdout": 200, "shadow_size": 20}, shadows={"epochs": 5}
    ).report.run
    assert run.duplicates == {"of reference on an earlier side": 3}
    assert run.counts["candidates"] == 23


def test_candidates_that_were_prepared_otherwise_allow_no_verdict(
    ask: Callable[..., InferenceResult], digits: Pixels, tmp_path: Path
) -> None:
    write_images(tmp_path / "bright", digits, np.arange(60), brighter=30)
    report = ask(str(tmp_path / "bright")).report
    assert report.verdict.kind == "invalid"
    blind = next(check for check in report.verdict.checks if check.name == "classifiers without a model")
    assert blind.outcome == "failed"
    assert "tell candidates from reference images" in blind.finding


@pytest.mark.parametrize(
    ("candidates", "changes", "message"),
    [
        ("reference", {}, "Every image of the reference is also on another side, pixel for pixel"),
        (
            "mixed",
            {"target": None},
            r"needs a target \(--target or --embeddings\) and .* \(--reference\)",
        ),
        (
            "mixed",
            {"data": {}},
            r"needs a target \(--target or --embeddings\) and .* \(--reference\)",
        ),
        ("mixed", {"target": "none"}, "There is no checkpoint at none"),
        ("mixed", {"split": {"n_holdout": 300}}, "needs 352 different images, and there are 300: give more"),
        ("mixed", {"split": {"n_holdout": 4}}, "At least 5 holdout images are needed, and"),
        ("mixed", {"shadows": {"count": 1}}, "needs 2 shadow models and has 1"),
    ],
)
def test_inference_that_cannot_be_says_why(
    ask: Callable[..., InferenceResult],
    folders: dict[str, str],
    candidates: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(MimiaError, match=message):
        ask(folders[candidates], **changes)
