import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from mimia.config.settings import EvaluationSettings
from mimia.evaluation.evaluate import evaluate
from mimia.evaluation.intervals import Estimate, proportion
from mimia.experiments.figures import curve_figure, matrix_figure, tradeoff_figure
from mimia.report.schema import AuditReport, Histogram, Model
from mimia.report.sections.curves.figures import histogram_figure, roc_figure, training_figure
from mimia.runtime.arrays import Floats

SETTINGS = EvaluationSettings()
HISTOGRAM = Histogram(
    attack="calibrated",
    quantity="score",
    edges=(0, 1, 2, 3),
    counts={"members": (1, 2, 1), "non-members": (4, 3, 1)},
    threshold=1.5,
)


def histogram(**changes: object) -> str:
    return histogram_figure(HISTOGRAM.model_copy(update=changes))


def roc(members: Floats, nonmembers: Floats, attacks: Sequence[str] = ("one",)) -> str:
    scores, truth = np.concatenate([members, nonmembers]), np.arange(len(members) + len(nonmembers)) < len(members)
    evaluations = [evaluate(attack, scores, truth, SETTINGS) for attack in attacks]
    return roc_figure(evaluations, [evaluate("blind", scores, truth, SETTINGS)], len(nonmembers))


def training(*losses: Sequence[float], target: bool = True) -> str:
    names = [f"shadow {number}" for number in range(len(losses))]
    if target:
        names[0] = "target"
    models = [Model(name=name, id="", losses=tuple(each)) for name, each in zip(names, losses, strict=True)]
    return training_figure(models)


def curves(points: Sequence[int], attacks: int = 3) -> str:
    rising = [(point, proportion(min(10 + place, 100), 100)) for place, point in enumerate(points)]
    return curve_figure({f"attack {number}": rising for number in range(attacks)}, "masks", "TPR at 1 % FPR")


def falling(start: float, end: float, epochs: int = 100) -> list[float]:
    values: list[float] = np.geomspace(start, end, epochs).tolist()
    return values


def matrix(values: list[str]) -> str:
    aucs = {(row, column): 0.5 + 0.5 * (row == column) for row in values for column in values}
    return matrix_figure(aucs, "target's data", "shadows' data", "AUCs")


def tradeoff(points: dict[str, tuple[float | None, float]]) -> str:
    def estimate(value: float | None) -> Estimate:
        return Estimate(None, note="no labels") if value is None else Estimate(value, value - 0.02, value + 0.02)

    pairs = {name: (estimate(across), estimate(up)) for name, (across, up) in points.items()}
    return tradeoff_figure(pairs, "linear probe", "TPR at 1 % FPR")


FIGURES: dict[str, Callable[[], str]] = {
    "histogram": histogram,
    "histogram of one bin": lambda: histogram(counts={"members": (0, 9, 0), "non-members": (0, 1, 0)}),
    "histogram of an empty group": lambda: histogram(counts={"members": (0, 0, 0), "non-members": (1, 0, 0)}),
    "histogram of nothing": lambda: histogram(counts={"members": (0, 0, 0)}),
    "histogram of narrow bins": lambda: histogram(edges=(1e-9, 1.1e-9, 1.2e-9, 1.3e-9), threshold=1e-9),
    "histogram of large values": lambda: histogram(edges=(-9e9, 0, 1, 9e9), threshold=0),
    "histogram with a far threshold": lambda: histogram(threshold=-1000),
    "histogram of a long quantity": lambda: histogram(quantity="score of an ensemble of all attacks there are"),
    "ROC curves": lambda: roc(np.linspace(0, 3, 90), np.linspace(-1, 2, 900)),
    "ROC curves of many attacks": lambda: roc(
        np.linspace(0, 3, 90), np.linspace(-1, 2, 900), [f"attack number {n}" for n in range(17)]
    ),
    "ROC curves of a long name": lambda: roc(
        np.linspace(0, 3, 90), np.linspace(-1, 2, 900), ["threshold", "an ensemble of all the attacks that there are"]
    ),
    "ROC curves of one non-member": lambda: roc(np.array([1.0, 3.0]), np.array([2.0])),
    "ROC curves of a few": lambda: roc(np.array([1.0, 3.0]), np.arange(5.0)),
    "ROC curves of a perfect attack": lambda: roc(np.ones(50), np.zeros(50)),
    "ROC curves of the worst attack": lambda: roc(np.zeros(50), np.ones(50)),
    "ROC curves of equal scores": lambda: roc(np.zeros(50), np.zeros(50)),
    "ROC curves of very many": lambda: roc(np.array([1.0]), np.linspace(0, 1, 10**5)),
    "losses of one epoch": lambda: training([0.5], [0.6]),
    "losses of two epochs": lambda: training([0.5, 0.4], [0.6, 0.5]),
    "losses of different lengths": lambda: training(falling(1, 0.5, 10), falling(1, 0.1, 100)),
    "losses that stand still": lambda: training([0.5] * 10, [0.5] * 10),
    "losses that hardly fall": lambda: training(falling(0.5432, 0.5421)),
    "losses that fall by half": lambda: training(falling(1.9, 0.9)),
    "losses of a decade": lambda: training(falling(1.5, 0.12)),
    "losses of seven decades": lambda: training(falling(10, 1e-6)),
    "losses of many shadows": lambda: training(*[falling(1, 0.1)] * 40),
    "curves of four budgets": lambda: curves([1, 4, 16, 64]),
    "curves of one budget": lambda: curves([4]),
    "curves of many budgets": lambda: curves([2**power for power in range(11)]),
    "curves without a figure": lambda: curve_figure(
        {"none": [(1, Estimate(None, note="too few")), (2, Estimate(None, note="too few"))]}, "masks", "TPR at 1 % FPR"
    ),
    "matrix of two values": lambda: matrix(["0.5", "0.75"]),
    "matrix of many": lambda: matrix([f"{0.1 * step:.1f}" for step in range(1, 10)]),
    "matrix of long names": lambda: matrix(["CIFAR-10", "TinyImageNet", "MiniImageNet"]),
    "matrix with a place that is empty": lambda: matrix_figure(
        {("a", "a"): 0.5, ("b", "b"): 1.0}, "down", "across", "t"
    ),
    "two defences": lambda: tradeoff({"none": (0.4, 0.9), "flips": (0.38, 0.0)}),
    "many defences": lambda: tradeoff({f"a defence of number {number}": (0.4, 0.1 * number) for number in range(10)}),
    "defences without utility": lambda: tradeoff({"none": (None, 0.5)}),
    "losses of shadows alone": lambda: training(*[falling(1, 0.1)] * 9, target=False),
}


@pytest.fixture(scope="module", params=FIGURES)
def figure(request: pytest.FixtureRequest) -> str:
    """Return the name of each of the figures."""
    return str(request.param)


@pytest.fixture(scope="module")
def svg(figure: str) -> str:
    return FIGURES[figure]()


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def texts(svg: str) -> list[str]:
    """Texts of a figure, in their order."""
    return ["".join(node.itertext()) for node in ElementTree.XML(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_figure_is_an_image_with_a_name_the_same_each_time(figure: str, svg: str) -> None:
    root = ElementTree.XML(svg)
    assert (root.tag, root.get("role")) == ("{http://www.w3.org/2000/svg}svg", "img")
    assert root.get("aria-label")
    assert FIGURES[figure]() == svg


def test_labels_stay_within_the_figure_and_off_each_other(
    svg: str, blank: Page, misplaced_labels: Callable[[Page], list[str]]
) -> None:
    blank.set_content(svg)
    assert misplaced_labels(blank) == []


def test_every_attack_has_a_name_and_a_curve_of_its_own_look(audit_report: AuditReport) -> None:
    evaluations = audit_report.evaluations
    svg = roc_figure(evaluations, audit_report.validity.blind, 1100)
    assert set(texts(svg)) >= {
        *(evaluation.attack for evaluation in evaluations),
        "guess",
        "blind statistics",
        "blind pixels",
    }
    looks = Counter(style for style in re.findall('style="([^"]*)"', svg) if re.search("stroke-width: 2(;|$)", style))
    assert list(looks.values()) == [2] * len(evaluations)  # once in the plot, once in the legend


def test_curves_have_names_and_their_budgets_as_ticks() -> None:
    assert set(texts(curves([1, 4, 16, 64]))) >= {"attack 0", "attack 1", "attack 2", "1", "4", "16", "64", "masks"}


def test_groups_are_drawn_as_proportions() -> None:
    assert histogram(counts={"members": (10, 20, 10), "non-members": (4, 3, 1)}) == histogram()
    assert histogram(counts={"members": (2, 1, 1), "non-members": (4, 3, 1)}) != histogram()


def test_quantity_of_any_name_is_written_as_it_is() -> None:
    name = '</text><script>alert(1)</script> & "more"'
    svg = histogram(quantity=name)
    assert ElementTree.XML(svg).get("aria-label") == f"Distribution of {name}"
    assert name in texts(svg)


@pytest.mark.parametrize(
    ("count", "labels"), [(5, ["target", "shadow 1", "shadow 2", "shadow 3", "shadow 4"]), (6, ["target", "shadows"])]
)
def test_target_is_told_from_few_shadows_by_their_names_and_from_many_as_one(count: int, labels: list[str]) -> None:
    assert texts(training(*[falling(1, 0.1)] * count))[-len(labels) :] == labels


def test_matrix_shows_each_auc_at_its_place() -> None:
    aucs = {("a", "x"): 0.51, ("a", "y"): 0.62, ("b", "x"): 0.73, ("b", "y"): 0.99}
    assert texts(matrix_figure(aucs, "down", "across", "AUCs"))[-4:] == ["0.51", "0.62", "0.73", "0.99"]


def test_each_defence_has_a_look_and_a_name_of_its_own() -> None:
    names = [f"defence {number}" for number in range(12)]
    found = texts(tradeoff({name: (0.1 * number, 0.5) for number, name in enumerate(names)}))
    assert [text for text in found if text.startswith("defence")] == names
