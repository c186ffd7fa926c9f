"""Audits by every attack, at each access level, of a small model that memorised its images."""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mimia.attacks.registry import ATTACKS
from mimia.config.settings import Settings, read_settings
from mimia.data.imageset import ImageSet
from mimia.jobs.audit import audit
from mimia.jobs.results import AuditResult
from mimia.models.checkpoints import native
from mimia.models.embedders import embedder_of
from mimia.pretraining.command import pretrain
from mimia.runtime.arrays import Pixels

pytestmark = pytest.mark.usefixtures("quick_network")
MEMBERS, SHADOWS, ONLINE = 30, 3, 6
OPTIONS = {
    **{name: {"epochs": 10} for name in ("encodermi-v", "encodermi-s", "partcrop")},
    "quantile": {"trees": 20},
}  # so that none takes long
QUICK: dict[str, Any] = {
    "recipe": {
        "preset": "mae-nano",
        "patch_size": 4,
        "mask_ratio": 0.5,
        "epochs": 120,
        "batch_size": 30,
        "base_learning_rate": 0.016,
    },
    "split": {"n_nonmembers": 40, "shadow_size": MEMBERS, "n_holdout": 30, "n_population": 20, "n_decoder": 30},
    "shadows": {"count": SHADOWS, "online": ONLINE},
    "signals": {"draws": 2},
    "attacks": {"names": ["all"], "options": OPTIONS},
    "compute": {"device": "cpu", "threads": 1},
}
OF_FITTED_DECODERS = {"dov4mm", "dov4mm-calibrated"}
LEVELS: dict[str, dict[str, Any]] = {
    "decoder": {},
    "encoder": {"decoder": {"source": "fitted", "epochs": 2}},
    "embeddings": {},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("all attacks")


@pytest.fixture(scope="module")
def folders(root: Path, digits: ImageSet) -> dict[str, str]:
    """Folders with the target's training images, as many unseen images, and many other unseen images."""
    shuffled = np.random.default_rng(0).permutation(len(digits))
    for name, rows in zip(
        ("members", "unseen", "others"), np.split(shuffled[:360], [MEMBERS, 2 * MEMBERS]), strict=True
    ):
        (root / name).mkdir()
        for row in rows:
            Image.fromarray(digits.pixels[row, 0]).save(root / name / f"{row:04d}.png")
    return {name: str(root / name) for name in ("members", "unseen", "others")}


@pytest.fixture(scope="module")
def target(root: Path, folders: dict[str, str]) -> Path:
    settings = QUICK | {"store": str(root / "store"), "data": {"source": folders["members"]}, "split": {}}
    return pretrain(read_settings(None, settings), root / "target")


@pytest.fixture(scope="module")
def endpoint(target: Path, serve: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """The target as a function to vectors behind HTTP."""
    embed = embedder_of(native.load(target))

    def answer(pixels: Pixels) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, embed(pixels))
        return buffer.getvalue()

    with serve(answer) as url:
        yield url


@pytest.fixture(scope="module")
def settings_of(root: Path, folders: dict[str, str], target: Path, endpoint: str) -> Callable[..., Settings]:
    def make(level: str, members: str = "members", **changes: Any) -> Settings:
        model = {"embeddings": endpoint} if level == "embeddings" else {"target": str(target)}
        data = {"members": folders[members], "nonmembers": folders["others"]}
        return read_settings(
            None, QUICK | {"store": str(root / "store"), "data": data} | model | LEVELS[level] | changes
        )

    return make


@pytest.fixture(scope="module")
def every(settings_of: Callable[..., Settings]) -> AuditResult:
    """An audit by every attack."""
    return audit(settings=settings_of("decoder"))


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def audited(request: pytest.FixtureRequest, level: str, settings_of: Callable[..., Settings]) -> AuditResult:
    result: AuditResult = request.getfixturevalue("every") if level == "decoder" else audit(settings=settings_of(level))
    return result


def test_every_attack_is_evaluated_or_the_reason_is_given(level: str, audited: AuditResult) -> None:
    run = audited.report.run
    evaluated = [found.attack for found in audited.report.evaluations]
    left_out = {each.attack: each.reason for each in run.attacks_not_run}
    assert sorted([*evaluated, *left_out]) == sorted(ATTACKS)
    if level == "decoder":
        assert set(left_out) == OF_FITTED_DECODERS
    else:  # there are enough models
        assert all("needs the target's" in reason for reason in left_out.values())
        assert (OF_FITTED_DECODERS & set(left_out) == set()) == (level == "encoder")
    assert len(evaluated) >= 7


def test_every_attack_scores_every_image(audited: AuditResult) -> None:
    for found in audited.report.evaluations:
        scores = np.array(audited.scores[f"{found.attack} score"])
        assert scores.shape == (len(audited.scores["id"]),)
        assert np.isfinite(scores).all()
        assert found.auc.value is not None
        assert found.threshold is not None


def test_online_models_are_trained_on_halves_of_the_evaluated_images_by_as_many_steps(
    level: str, audited: AuditResult
) -> None:
    models = {model.name: model for model in audited.report.run.models}
    online = [model for name, model in models.items() if name.startswith("online")]
    if level == "embeddings":  # no attack on a function takes them
        assert not online
        return
    evaluated = len(audited.scores["id"])
    assert [model.images for model in online] == [evaluated // 2] * ONLINE
    steps = [len(model.losses) * -(-(model.images or 0) // MEMBERS) for model in (models["target"], *online)]
    assert len(set(steps)) == 1
    assert len({model.id for model in models.values()}) == 1 + SHADOWS + ONLINE


def test_same_audit_gives_the_same_scores_from_what_is_in_the_store(
    root: Path, level: str, audited: AuditResult, settings_of: Callable[..., Settings]
) -> None:
    def kept() -> set[Path]:
        return {path for name in ("models", "decoders", "signals") for path in root.glob(f"store/{name}/*")}

    before = kept()
    again = audit(settings=settings_of(level))
    assert again.scores == audited.scores
    assert again.report.evaluations == audited.report.evaluations
    assert kept() == before


@pytest.mark.parametrize("attack", ["calibrated", "rmia-online", "ensemble"])
def test_attack_alone_gives_the_scores_that_it_gives_among_all(
    every: AuditResult, settings_of: Callable[..., Settings], attack: str
) -> None:
    alone = audit(settings=settings_of("decoder", attacks={"names": [attack], "options": OPTIONS})).scores
    assert [*alone] == ["name", "id", "role", f"{attack} score", f"{attack} p-value"]
    assert alone == {column: every.scores[column] for column in alone}


def test_memorised_images_are_found_by_attacks_of_every_sort(every: AuditResult) -> None:
    level = 0.05 / len(ATTACKS)
    found = {each.attack for each in every.report.evaluations if each.p_value < level}
    assert found >= {"calibrated", "rmia-online", "ensemble", "gradient", "ensemble-white-box"}


def test_no_attack_finds_a_difference_where_the_target_saw_neither_side(settings_of: Callable[..., Settings]) -> None:
    shadows = {"count": SHADOWS, "online": ONLINE, "epochs": 30}  # as nothing is remembered, few suffice
    report = audit(settings=settings_of("decoder", members="unseen", shadows=shadows)).report
    assert {each.attack for each in report.evaluations} == {*ATTACKS} - OF_FITTED_DECODERS
    assert min(each.p_value for each in report.evaluations) > 0.05 / len(ATTACKS)
