import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score, roc_auc_score

from mimia.attacks import registry
from mimia.config.settings import Settings, read_settings
from mimia.data.drawing import SplitRequirements, split_for_audit
from mimia.data.imageset import ImageSet
from mimia.evaluation.intervals import Estimate
from mimia.jobs.audit import audit
from mimia.jobs.results import AuditResult
from mimia.models.checkpoints import native
from mimia.pretraining.command import pretrain
from mimia.report.html import render_report
from mimia.runtime.arrays import Bools, Floats, Indices, fingerprint_of_ids
from mimia.runtime.errors import MimiaError

pytestmark = pytest.mark.usefixtures("quick_network")
CountedSteps = Callable[..., AbstractContextManager[list[int]]]
RECIPE: dict[str, Any] = {
    "preset": "mae-nano",
    "patch_size": 4,
    "mask_ratio": 0.5,
    "epochs": 2,
    "batch_size": 50,
    "base_learning_rate": 0.016,
}
LEAKY = RECIPE | {"epochs": 200}  # the area of the calibrated attack becomes about .75
SIDES = {"n_members": 50, "n_nonmembers": 1000, "shadow_size": 50, "n_holdout": 150}
FEW = {"n_members": 20, "n_nonmembers": 60, "shadow_size": 20, "n_holdout": 30}
ATTACKS = ("threshold", "calibrated")


def settings_of(store: Path, **changes: Any) -> Settings:
    quick = {
        "store": str(store),
        "recipe": RECIPE,
        "signals": {"draws": 4},
        "attacks": {"names": ATTACKS},
        "compute": {"device": "cpu", "threads": 1},
    }
    return read_settings(None, quick | changes)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, store_with_digits: Callable[[Path], Path]) -> Path:
    """One store for all tests that need not have one of their own."""
    return store_with_digits(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def leak(shared: Path) -> AuditResult:
    """An audit of the built-in images, of a model that was trained for long on few of them."""
    return audit(settings=settings_of(shared, recipe=LEAKY, split=SIDES))


@pytest.fixture(scope="module")
def shuffled(digits: ImageSet) -> Indices:
    """The digits stand by writer: sides that were cut from them as they stand would differ in more than membership."""
    return np.random.default_rng(0).permutation(len(digits))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet, shuffled: Indices) -> dict[str, str]:
    """What a target is trained on, as many images that it has never seen, and many more of those."""
    root = tmp_path_factory.mktemp("folders")
    for name, rows in zip(("members", "unseen", "others"), np.split(shuffled[:400], [50, 100]), strict=True):
        write_images(root / name, digits, rows)
    return {name: str(root / name) for name in ("members", "unseen", "others")}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, shared: Path, folders: dict[str, str]) -> Path:
    settings = settings_of(shared, recipe=LEAKY, data={"source": folders["members"]})
    return pretrain(settings, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def small(tmp_path: Path, digits: ImageSet, shuffled: Indices) -> tuple[Path, Path]:
    """Folders of 30 members and 80 non-members, to be changed."""
    write_images(tmp_path / "in", digits, shuffled[:30])
    write_images(tmp_path / "out", digits, shuffled[30:110])
    return tmp_path / "in", tmp_path / "out"


@pytest.fixture
def audit_small(shared: Path, small: tuple[Path, Path]) -> Callable[..., AuditResult]:
    def run(**data: Any) -> AuditResult:
        return audit(settings=settings_of(shared, data={"members": str(small[0]), "nonmembers": str(small[1])} | data))

    return run


def write_images(folder: Path, images: ImageSet, rows: Indices, side: int = 8) -> None:
    folder.mkdir()
    for row in rows:
        Image.fromarray(images.pixels[row, 0]).resize((side, side)).save(folder / f"{row:04d}.png")


def column(result: AuditResult, name: str, *roles: str) -> list[Any]:
    """Give a column of the scores, for images of some roles."""
    pairs = zip(result.scores[name], result.scores["role"], strict=True)
    return [value for value, role in pairs if role in (roles or ("member", "nonmember", "holdout"))]


def scores_and_truth(result: AuditResult, attack: str) -> tuple[Floats, Bools]:
    inside, outside = (column(result, f"{attack} score", role) for role in ("member", "nonmember"))
    return np.array(inside + outside), np.arange(len(inside + outside)) < len(inside)


def value_of(estimate: Estimate | None) -> float:
    assert estimate is not None
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= estimate.value <= estimate.high
    return estimate.value


def test_report_says_who_is_who(leak: AuditResult, digits: ImageSet, shared: Path) -> None:
    run = leak.report.run
    parts = {"members": 50, "non-members": 1000, "images of shadows": 100, "holdout": 150}
    assert run.counts == parts
    assert [len(column(leak, "id", role)) for role in ("member", "nonmember", "holdout")] == [50, 1000, 150]
    assert len(set(leak.scores["id"])) == 1200
    settings = settings_of(shared, split=SIDES).split
    expected = split_for_audit(digits, {"source": np.arange(len(digits))}, settings, SplitRequirements(shadows=2))
    assert run.split == expected.fingerprint
    assert (run.image_shape, run.left_out) == ((1, 8, 8), ())


def test_target_was_trained_on_the_members(leak: AuditResult, shared: Path) -> None:
    identity = leak.report.run.models[0].id
    target = next(path for path in shared.glob("models/*") if native.model_id(path) == identity)
    training = native.load_training(target)
    assert training is not None
    assert training.images_fingerprint == fingerprint_of_ids(column(leak, "id", "member"))
    assert [model.images for model in leak.report.run.models] == [50, 50, 50]


@pytest.mark.parametrize("place", [0, 1], ids=ATTACKS)
def test_figures_follow_from_the_scores(leak: AuditResult, place: int) -> None:
    found = leak.report.evaluations[place]
    assert found.attack == ATTACKS[place]
    scores, truth = scores_and_truth(leak, found.attack)
    assert value_of(found.auc) == pytest.approx(roc_auc_score(truth, scores))
    inside, outside = scores[truth], scores[~truth]
    found_at = [np.mean(inside >= bar) for bar in scores if np.sum(outside >= bar) <= 0.01 * len(outside)]
    assert value_of(found.tpr_at_1_percent) == pytest.approx(max(found_at))
    assert found.tpr_at_01_percent.value is None  # 1,000 non-members do not say where one of 1,000 stands
    assert found.threshold is not None
    called = scores >= found.threshold
    assert value_of(found.precision) == pytest.approx(precision_score(truth, called))
    assert value_of(found.recall) == pytest.approx(recall_score(truth, called))
    assert value_of(found.balanced_accuracy) == pytest.approx(balanced_accuracy_score(truth, called))


@pytest.mark.parametrize("attack", ATTACKS)
def test_p_values_are_ranks_among_the_holdout(leak: AuditResult, attack: str) -> None:
    holdout = column(leak, f"{attack} score", "holdout")
    scores = column(leak, f"{attack} score", "member", "nonmember")
    expected = [(1 + sum(other >= score for other in holdout)) / (len(holdout) + 1) for score in scores]
    assert column(leak, f"{attack} p-value", "member", "nonmember") == pytest.approx(expected)
    assert set(column(leak, f"{attack} p-value", "holdout")) == {""}


def test_model_that_remembers_leaks_and_its_most_exposed_members_are_shown(leak: AuditResult) -> None:
    assert leak.report.verdict.kind == "leaks"
    strongest = max(leak.report.evaluations, key=lambda found: value_of(found.auc)).attack
    scores = sorted(column(leak, f"{strongest} score", "member"), reverse=True)
    assert [each.score for each in leak.report.run.gallery if each.group == "member"] == scores[:6]


def test_histograms_count_every_image(leak: AuditResult) -> None:
    for histogram in leak.report.run.histograms:
        assert {group: sum(counts) for group, counts in histogram.counts.items()} == {
            "members": 50,
            "non-members": 1000,
        }


def test_same_settings_train_nothing_and_give_the_same_scores(
    counted_steps: CountedSteps, leak: AuditResult, shared: Path
) -> None:
    with counted_steps() as count:
        again = audit(settings=settings_of(shared, recipe=LEAKY, split=SIDES))
    assert count == [0]
    assert again.scores == leak.scores
    assert again.report.evaluations == leak.report.evaluations


def test_another_store_gives_the_same_scores(
    counted_steps: CountedSteps, tmp_path: Path, store_with_digits: Callable[[Path], Path]
) -> None:
    stores = [store_with_digits(tmp_path / name) for name in ("first", "second")]
    with counted_steps() as count:
        first, second = (audit(settings=settings_of(place, split=FEW)) for place in stores)
    assert count == [2 * 3 * 2]  # stores, models, epochs of a single step
    assert first.scores == second.scores


def test_shadows_are_asked_about_their_own_images_once(
    tmp_path: Path, folders: dict[str, str], shared: Path, digits: ImageSet, shuffled: Indices
) -> None:
    target = pretrain(settings_of(shared, data={"source": folders["members"]}), tmp_path / "target")
    write_images(tmp_path / "reference", digits, shuffled[400:700])

    def images_scored() -> int:
        return sum(len(np.load(path)) for path in (tmp_path / "store" / "signals").rglob("values.npy"))

    def audit_against(nonmembers: str) -> AuditResult:
        sides = {"members": folders["members"], "nonmembers": nonmembers, "reference": str(tmp_path / "reference")}
        threshold = {"names": ["threshold"]}
        return audit(settings=settings_of(tmp_path / "store", target=str(target), data=sides, attacks=threshold))

    audit_against(folders["unseen"])
    before = images_scored()
    counts = audit_against(folders["others"]).report.run.counts
    sides = counts["members"] + counts["non-members"]
    assert images_scored() - before == 3 * (sides + counts["holdout"]) + sides  # two shadows and the target; untrained


def test_shadows_may_differ_from_the_target_in_what_the_auditor_does_not_know(
    counted_steps: CountedSteps, tmp_path: Path, store_with_digits: Callable[[Path], Path]
) -> None:
    store_with_digits(tmp_path)
    shadows = {"mask_ratio": 0.25, "epochs": 3, "augmentation": "flip", "size": "micro"}
    with counted_steps() as count:
        audit(settings=settings_of(tmp_path, split=FEW, shadows=shadows))
    assert count == [2 + 2 * 3]  # a step an epoch: two epochs of the target, three of two shadows
    trained = [path.parent for path in (tmp_path / "models").glob("*/training.json")]
    ratios = sorted(native.load_config(directory).spec.mask_ratio for directory in trained)
    assert ratios == [0.25, 0.25, 0.5]
    as_told = {"mask_ratio": 0.25, "epochs": 3, "augmentation": "flip", "size": "micro"}
    for directory in trained:
        if native.load_config(directory).spec.mask_ratio == 0.25:
            training = native.load_training(directory)
            assert training is not None
            assert training.recipe.model_dump(include=set(as_told)) == as_told


def test_mask_ratio_of_shadows_that_leaves_nothing_visible_is_refused(shared: Path) -> None:
    with pytest.raises(MimiaError, match=r"a mask ratio of 0\.99 on 4 patches leaves none visible or none masked"):
        audit(settings=settings_of(shared, split=SIDES, shadows={"mask_ratio": 0.99}))


def test_shadows_may_be_trained_on_images_of_another_source(shared: Path, folders: dict[str, str]) -> None:
    data = {"source": folders["others"], "reference": folders["unseen"]}
    result = audit(settings=settings_of(shared, data=data, split={"n_members": 30}))
    for role, home in {"member": "others", "nonmember": "others", "holdout": "unseen"}.items():
        assert {path.name for path in Path(folders[home]).iterdir()}.issuperset(column(result, "name", role))
    assert result.report.drawn_at_random


def test_attacks_that_are_left_out_are_listed(shared: Path) -> None:
    report = audit(settings=settings_of(shared, split=FEW, attacks={"names": ["threshold"]})).report
    assert [found.attack for found in report.evaluations] == ["threshold"]
    assert [each.attack for each in report.run.attacks_not_run] == [
        name for name in registry.ATTACKS if name != "threshold"
    ]


@pytest.mark.parametrize("reference", ["own", "from the non-members"])
def test_sides_may_have_folders_of_their_own(shared: Path, folders: dict[str, str], reference: str) -> None:
    data = {"members": folders["members"], "nonmembers": folders["others"]}
    if reference == "own":
        data |= {"nonmembers": folders["unseen"], "reference": folders["others"]}
    result = audit(settings=settings_of(shared, data=data))
    homes = {"member": "members", "nonmember": "unseen" if reference == "own" else "others", "holdout": "others"}
    for role, home in homes.items():
        assert {path.name for path in Path(folders[home]).iterdir()}.issuperset(column(result, "name", role))
    assert len(column(result, "name", "member")) == 50
    assert result.report.run.counts["images of shadows"] == 100


def test_checkpoint_is_audited_with_its_own_members(
    counted_steps: CountedSteps, shared: Path, folders: dict[str, str], checkpoint: Path
) -> None:
    data = {"members": folders["members"], "nonmembers": folders["others"]}
    with counted_steps() as count:
        report = audit(settings=settings_of(shared, target=str(checkpoint), data=data)).report
    assert count == [2 * 200]  # two shadows, trained as the target says that it was
    assert report.run.models[0].id == hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert report.verdict.kind == "leaks"


def test_images_that_the_target_never_saw_are_not_told_apart(
    shared: Path, folders: dict[str, str], checkpoint: Path
) -> None:
    data = {"members": folders["unseen"], "nonmembers": folders["others"]}
    settings = settings_of(shared, target=str(checkpoint), data=data, shadows={"epochs": 20})
    report = audit(settings=settings).report
    assert report.verdict.kind == "inconclusive"
    assert "The shadow models are unlike the target" in report.verdict.sentence  # they are trained for fewer epochs
    assert "raise shadows.epochs" in report.verdict.sentence
    for found in (*report.evaluations, *report.validity.blind):
        assert found.auc.low is not None
        assert found.auc.high is not None
        assert found.auc.low < 0.5 < found.auc.high


def test_broken_image_is_left_out_and_listed(small: tuple[Path, Path], audit_small: Callable[..., AuditResult]) -> None:
    Image.effect_noise((8, 8), 50).save(small[0] / "cut.jpg")
    content = (small[0] / "cut.jpg").read_bytes()
    (small[0] / "cut.jpg").write_bytes(content[:-20])
    with pytest.raises(MimiaError, match=r"1 of 31 are left out \(cut\.jpg: broken: .* pass --allow-skipped"):
        audit_small()
    run = audit_small(allow_skipped=True).report.run
    assert [(entry.name, entry.reason[:8]) for entry in run.left_out] == [("cut.jpg", "broken: ")]
    assert run.counts["members"] == 30


def test_duplicates_across_sides_are_reported_and_judged_once(
    small: tuple[Path, Path], audit_small: Callable[..., AuditResult]
) -> None:
    inside, outside = small
    for number, path in enumerate(sorted(inside.iterdir())[:3]):
        (outside / f"copy {number}.png").write_bytes(path.read_bytes())
    (inside / "twin.png").write_bytes((inside / path.name).read_bytes())
    result = audit_small()
    assert result.report.run.duplicates == {"within members": 1, "of nonmembers on an earlier side": 3}
    assert result.report.run.counts["members"] == 30
    assert len(set(result.scores["id"])) == len(result.scores["id"])
    assert not any(str(name).startswith("copy") for name in result.scores["name"])


def test_images_of_another_size_than_the_targets_are_scaled_on_demand_only(
    shared: Path, small: tuple[Path, Path], tmp_path: Path, digits: ImageSet, shuffled: Indices
) -> None:
    target = str(pretrain(settings_of(shared, data={"source": str(small[0])}), tmp_path / "target"))
    write_images(tmp_path / "large", digits, shuffled[:30], side=16)
    write_images(tmp_path / "others", digits, shuffled[30:90], side=16)
    data: dict[str, Any] = {"members": str(tmp_path / "large"), "nonmembers": str(tmp_path / "others")}
    with pytest.raises(MimiaError, match=r"takes images of 8×8 pixels, and these have 16×16: set data.image_size to 8"):
        audit(settings=settings_of(shared, target=target, data=data))
    scaled = audit(settings=settings_of(shared, target=target, data=data | {"image_size": 8}))
    assert scaled.report.run.image_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"members": "digits", "nonmembers": "digits"}}, "image of the nonmembers is also on another side"),
        ({"data": {"members": "digits"}}, "not for the nonmembers: pass --nonmembers too"),
        ({"data": {"nonmembers": "digits"}}, "not for the members: pass --members too"),
        ({"data": {"reference": "digits"}}, "not for the members: pass --members too"),
        ({"target": "model"}, "needs to know its members: pass members and nonmembers .*, or use `mimia infer`"),
        ({"target": "model", "data": {"members": "digits", "nonmembers": "digits"}}, "There is no checkpoint at model"),
        ({"split": {"n_members": 2000}, "attacks": {}}, "needs 8,001 different images, and there are 1,797"),
        ({"split": SIDES | {"n_members": 4}}, "At least 5 members are needed, and this split has 4"),
        ({"split": SIDES | {"n_nonmembers": 1}}, "At least 5 non-members are needed, and this split has 1"),
        ({"attacks": {"names": ["guess"]}}, "no attack 'guess': `mimia attacks` lists"),
        ({"attacks": {"names": []}}, "at least one attack, and each once"),
        ({"attacks": {"names": ["threshold", "threshold"]}}, "at least one attack, and each once"),
        ({"shadows": {"count": 1}}, "needs 2 shadow models and has 1: raise shadows.count"),
        (
            {"attacks": {"names": ["threshold", "rmia-online"]}, "shadows": {"online": 2}},
            "'rmia-online' needs 4 models .* and has 2: set shadows.online to 4 or more",
        ),
        (
            {"attacks": {"names": ["gradient"]}, "decoder": {"source": "fitted"}},
            "'gradient' needs the target's decoder, and this run has the encoder alone",
        ),
        (
            {"split": SIDES | {"n_population": 4}, "attacks": {}},
            "At least 5 population images are needed, and this split has 4",
        ),
        ({"recipe": RECIPE | {"patch_size": 3}}, "patches of 3 px do not tile images of 8 px"),
    ],
)
def test_audit_that_cannot_be_says_why_before_anything_is_trained(
    counted_steps: CountedSteps, shared: Path, changes: dict[str, Any], message: str
) -> None:
    with counted_steps() as count, pytest.raises(MimiaError, match=message):
        audit(settings=settings_of(shared, **changes))
    assert count == [0]


def test_use_of_the_target_is_measured_on_images_with_labels_that_no_model_saw(shared: Path, leak: AuditResult) -> None:
    result = audit(settings=settings_of(shared, recipe=LEAKY, split=SIDES | {"n_probe": 200}))
    found = result.report.utility
    assert list(found) == ["target", "untrained model", "pixels"]
    assert result.report.evaluations == leak.report.evaluations  # nothing else changes
    pixels = found["pixels"]
    assert pixels.explained is None
    assert pixels.linear_probe.value is not None
    assert pixels.linear_probe.value > 0.8
    for name, better in (("target", True), ("untrained model", False)):
        explained = found[name].explained
        assert explained is not None
        assert explained.value is not None
        assert (explained.value > 0) == better


def test_images_without_labels_show_how_hidden_patches_are_guessed(shared: Path, folders: dict[str, str]) -> None:
    data = {"members": folders["members"], "nonmembers": folders["others"]}
    report = audit(settings=settings_of(shared, data=data, split={"n_probe": 100})).report
    for name, utility in report.utility.items():
        assert str(utility.linear_probe) == str(utility.nearest_neighbours) == "no labels"
        assert (utility.explained is None) == (name == "pixels")
    assert "no labels" in render_report(report)


def test_images_of_one_class_have_no_classes_to_be_read(
    shared: Path, digits: ImageSet, shuffled: Indices, tmp_path: Path
) -> None:
    """The images of a side lie in one folder within the folder that is named."""
    sides = dict(zip(("members", "nonmembers"), np.split(shuffled[:300], [40]), strict=True))
    for name, rows in sides.items():
        (tmp_path / name).mkdir()
        write_images(tmp_path / name / "photos", digits, rows)
    data = {name: str(tmp_path / name) for name in sides}
    report = audit(settings=settings_of(shared, data=data, split={"n_probe": 100})).report
    assert {str(utility.linear_probe) for utility in report.utility.values()} == {"one class alone"}


def test_target_and_shadows_are_stopped_by_the_same_images(shared: Path) -> None:
    recipe = RECIPE | {"epochs": 10, "defences": {"early_stopping": {"patience": 1}}}
    report = audit(settings=settings_of(shared, recipe=recipe, split=FEW | {"n_validation": 60})).report
    assert all(0 < len(model.losses) <= 10 for model in report.run.models)
    assert len(report.run.models) == 3
