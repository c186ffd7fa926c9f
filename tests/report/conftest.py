"""Reports of real parts with awkward content, and a browser to read them in."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, sync_playwright

from mimia.attacks.base import Scores
from mimia.config.settings import Settings, read_settings
from mimia.config.toml import to_toml
from mimia.data.imageset import ImageSet, LeftOut
from mimia.evaluation.comparison import compare
from mimia.evaluation.conformal import conformal_p_values, discoveries
from mimia.evaluation.epsilon import Fixed, epsilon_lower_bound
from mimia.evaluation.evaluate import evaluate, evaluate_together
from mimia.evaluation.one_run import one_run_bound
from mimia.models.base import ModelSpec
from mimia.models.checkpoints.native import Privacy
from mimia.models.mae import MAE, SIZES
from mimia.report.builder import histogram
from mimia.report.schema import AuditReport, Candidate, InferenceReport, Model, NearDuplicatePictures, NotRun, Run
from mimia.report.sections.gallery.pictures import make_gallery
from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.compute import ComputeSettings, hardware, versions
from mimia.validity.absence import AbsenceCriterion
from mimia.validity.blind_baseline import BlindGuess, evaluate_guesses, sides_differ
from mimia.validity.controls import STRICT, ControlScores, Duplicates, Measurements, compare_control
from mimia.validity.matching import evaluate_matched
from mimia.validity.verdict import Sides, deciding_attack, judge

LONG_NAME = f"{'a' * 40}/{'scan_of_the_archive-' * 10}0001.png"
NAMES = (
    "digits/0001.png",
    "<script>alert('gallery')</script>.png",
    LONG_NAME,
    "</p></section><b onmouseover=alert(1)>.png",
    "Größe 猫 & \"quotes\", 'too'.png",
)
LEFT_OUT = (
    LeftOut("<script>alert('left out')</script>.png", "not an image"),
    LeftOut(LONG_NAME, "broken: image file is truncated (12 bytes not processed)"),
    LeftOut("猫/& < > \" '.jpg", "too small: 1×1 pixels for a size of 8"),
)
SPEC = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    mask_ratio=0.75,
    target_space="patch-normalised",
    mean=(0.3,),
    std=(0.37,),
)
PRIVACY = Privacy(epsilon=3.25, delta=1e-6, noise_multiplier=1.375, clip=0.5, sample_rate=0.125, steps=12_345)
GENERATOR_SEED = 7
MISPLACED_LABELS = """() => [...document.querySelectorAll("svg")].flatMap(svg => {
    const frame = svg.getBoundingClientRect();
    const labels = [...svg.querySelectorAll("text")]
        .map(node => ({text: node.textContent.trim(), box: node.getBoundingClientRect()}))
        .filter(label => label.text);
    const outside = labels.filter(({box}) => box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
    const meet = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
    const overlaps = labels.flatMap((a, i) => labels.slice(i + 1).filter(b => meet(a.box, b.box)).map(b => [a, b]));
    return [
        ...(labels.length ? [] : ["a figure without labels"]),
        ...(frame.width && frame.height ? [] : ["a figure of no size"]),
        ...outside.map(({text}) => `outside: ${text}`),
        ...overlaps.map(([a, b]) => `${a.text} on ${b.text}`),
    ];
})"""


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings of which many are not the default, with a path that needs quoting."""
    return read_settings(
        None,
        {
            "target": 'C:\\models\\the "best" of Größe\nand # more',
            "store": "s3://bucket/猫",
            "out": Path("runs") / "first",
            "split": {"n_members": 160, "seed": 3},
            "recipe": {"base_learning_rate": 1.5e-7, "betas": (0.8, 0.99), "patch_normalised": True},
            "evaluation": {"fewest_false_positives": 11},
        },
    )


@pytest.fixture(scope="session")
def run(settings: Settings, digits: ImageSet) -> Run:
    """Return what every run records, as yet without histograms."""
    shown = digits.take(np.arange(12))
    named = replace(shown, names=np.array([NAMES[row % len(NAMES)] for row in range(12)]))
    generator = np.random.default_rng(GENERATOR_SEED)
    return Run(
        created="2026-01-01 00:00 UTC",
        command=f"mimia infer --candidates '{LONG_NAME}' --config settings.toml",
        access="decoder (D1)",
        settings=settings.model_dump(mode="json"),
        settings_toml=to_toml(settings),
        assumed=("pixel statistics are ImageNet's", "the heads are those of a released size"),
        notes=("the weights of <b>net</b> are used", "shadows are trained for 40 epochs"),
        models=(
            Model(name="target", id=64 * "0", privacy=PRIVACY),
            *(
                Model(
                    name=f"shadow {number}",
                    id=64 * f"{number % 10}",
                    images=12_345,
                    seed=int(generator.integers(2**62, 2**63)),
                    losses=tuple((np.geomspace(2, 0.01, 400) * generator.lognormal(0, 0.1, 400)).tolist()),
                    seconds=1234.5,
                    hardware=hardware(ComputeSettings(device="cpu")),
                )
                for number in range(1, 13)
            ),
        ),
        image_shape=(1, 8, 8),
        counts={"members": 160, "non-members": 1100, "images of shadows": 1_234_567},
        duplicates={"within members": 1234, "of nonmembers on an earlier side": 5},
        left_out=LEFT_OUT,
        split=32 * "a",
        query_id=32 * "b",
        attacks_not_run=(
            NotRun(attack="likelihood ratio", reason="It needs 6 models and has 2."),
            NotRun(attack="quantile", reason="It was not asked for."),
        ),
        histograms=(),
        gallery=make_gallery(
            MAE(SPEC, SIZES["nano"], torch.Generator().manual_seed(0)),
            named,
            ["member"] * 6 + ["non-member"] * 6,
            generator.normal(size=12),
            settings.signals,
        ),
        versions=versions(),
        hardware=hardware(ComputeSettings(device="cpu")),
        seconds=98.7,
    )


@pytest.fixture(scope="session")
def audit_report(settings: Settings, run: Run) -> AuditReport:
    """Return an audit of seven attacks with too few images for some figures."""
    members = np.arange(1260) < 160
    scores = [
        _simulated(name, members, shift)
        for name, shift in {
            "threshold": 0.0,
            "calibrated": 1.0,
            "likelihood ratio": 2.0,
            "token responses": 0.5,
            "similarity of views": 0.1,
            "gradient norm": -0.1,
            'an ensemble of <all> & "more"': 4.0,
        }.items()
    ]
    scores[0] = replace(scores[0], threshold=float(np.nextafter(scores[0].values.max(), np.inf)))
    groups = {"members": members, "non-members": ~members}
    evaluations = evaluate_together(scores, members, settings.evaluation)
    best = scores[evaluations.index(deciding_attack(evaluations))]
    measured = _measured(best.values, members, settings)
    return AuditReport(
        verdict=judge(evaluations, measured, Sides("members", "non-members", (160, 1100)), AbsenceCriterion(0.6, 0.05)),
        evaluations=evaluations,
        deciding=best.attack,
        comparisons={each.attack: compare(best.values, each.values, members) for each in scores if each is not best},
        validity=measured,
        near_duplicates=tuple(
            NearDuplicatePictures(names=(LONG_NAME, "b.png"), pictures=(exhibit.original, exhibit.masked))
            for exhibit in run.gallery[:6]
        ),
        epsilon=epsilon_lower_bound(best.values[members], best.values[~members], Fixed(best.threshold)),
        one_run=one_run_bound(best.values, members),
        drawn_at_random=True,
        run=run.model_copy(update={"histograms": tuple(histogram(each, groups) for each in scores[:2])}),
    )


@pytest.fixture(scope="session")
def inference_report(settings: Settings, run: Run) -> InferenceReport:
    """Return an inference with more listed candidates than the page shows."""
    asked = np.arange(900) < 150
    scores = _simulated("calibrated", asked, 3.0)
    inside, outside = scores.values[asked], scores.values[~asked]
    p_values = conformal_p_values(inside, outside)
    listed = discoveries(p_values, 0.075)
    gallery = tuple(exhibit.model_copy(update={"group": "candidate"}) for exhibit in run.gallery)
    histograms = (histogram(scores, {"candidates": asked, "non-members": ~asked}),)
    evaluation = evaluate("calibrated", scores.values, asked, settings.evaluation, scores.threshold)
    measured = _measured(scores.values, asked, settings)
    sides = Sides("candidates", "reference images", (150, 750))
    return InferenceReport(
        verdict=judge([evaluation], measured, sides, AbsenceCriterion(0.6, 0.05)),
        evaluation=evaluation,
        false_discovery_rate=0.075,
        validity=measured,
        near_duplicates=(),
        candidates=tuple(
            Candidate(
                name=NAMES[place % len(NAMES)],
                id=4 * f"{place:08x}",
                score=float(inside[place]),
                p_value=float(p_values[place]),
                listed=bool(listed[place]),
            )
            for place in np.argsort(-inside)
        ),
        run=run.model_copy(update={"histograms": histograms, "gallery": gallery}),
    )


@pytest.fixture(scope="session", params=["audit", "inference"])
def report(request: pytest.FixtureRequest) -> AuditReport | InferenceReport:
    """Return a report of either kind."""
    found: AuditReport | InferenceReport = request.getfixturevalue(f"{request.param}_report")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        message = "there is no browser to look at reports with: install Debian's package chromium"
        if "CI" in os.environ:
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=executable, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def misplaced_labels() -> Callable[[Page], list[str]]:
    """Return a function that names the labels of a page's figures that lie outside, or on one another."""

    def find(page: Page) -> list[str]:
        found: list[str] = page.evaluate(MISPLACED_LABELS)
        return found

    return find


def _simulated(attack: str, members: Bools, shift: float) -> Scores:
    generator = np.random.default_rng([GENERATOR_SEED, int(10 * abs(shift))])
    values = generator.normal(shift * members, 1)
    ids = np.array([4 * f"{place:08x}" for place in range(len(members))])
    return Scores(attack, values, ids, threshold=float(np.quantile(values, 0.9)), shadow_auc=0.5 + shift / 10)


def _measured(scores: Floats, members: Bools, settings: Settings) -> Measurements:
    """Measure sides that differ: with scores by luck for a third of the non-members, everything can be found."""
    generator = np.random.default_rng(GENERATOR_SEED)
    odds = generator.normal(size=(2, len(members))) + [[0.5], [0.1]] * members
    folds = generator.permutation(np.arange(len(members)) % 5)
    guesses = [BlindGuess(name, each, folds) for name, each in zip(("statistics", "pixels"), odds, strict=True)]
    controls = [
        ControlScores(name, generator.normal(size=len(members)), np.ones(len(members), dtype=bool))
        for name in ("shadow 1", "shadow 2", "untrained model")
    ]
    return Measurements(
        blind=evaluate_guesses(guesses, members, settings.evaluation),
        blind_separates=sides_differ(guesses, members, STRICT),
        controls=tuple(compare_control(each, scores, members) for each in controls),
        matched=evaluate_matched(scores, members, guesses),
        duplicates=Duplicates(6, (0, 3)),
        reconstruction=0.4,
    )
