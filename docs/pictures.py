"""Draw the pictures of validity.md: each mistake that a check of the gate catches, planted among the digits.

Run `python docs/pictures.py` at the root of the project; it pre-trains a few small models, which takes minutes.
"""

import base64
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mimia.config.settings import SignalSettings, read_settings
from mimia.data.loading import load_sides
from mimia.data.near_duplicates import near_duplicates
from mimia.evaluation.evaluate import Evaluation
from mimia.evaluation.intervals import Estimate
from mimia.evaluation.power import detectable_auc
from mimia.experiments.self_test import Bed, sharpened
from mimia.jobs.audit import audit
from mimia.jobs.results import AuditResult
from mimia.models.checkpoints import native
from mimia.models.relative_error import reconstruction_errors
from mimia.pretraining.command import pretrain
from mimia.report.sections.gallery.pictures import make_gallery
from mimia.runtime.arrays import Floats, Pixels, content_id
from mimia.runtime.store import Store

FOLDER = Path(__file__).parent / "validity"
MEMBERS, NONMEMBERS, GREY = "#d1495b", "#1b6ca8", "#7b8794"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "mimia",
    "svg.fonttype": "none",
}


def draw_classifiers(bed: Bed) -> None:
    figure, panels = panels_of("neither side was seen, prepared alike", "neither was seen, one side sharpened")
    audits = (
        bed.audit(bed.write("alike", bed.unseen), bed.beside()),
        bed.audit(bed.write("sharper", bed.unseen, sharpened), bed.beside()),
    )
    for axes, result in zip(panels, audits, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        axes.plot(*curve(deciding(result)), color=MEMBERS, linewidth=2, label="deciding attack on the model")
        for evaluation, dashes in zip(result.report.validity.blind, ("--", "-."), strict=True):
            label = evaluation.attack.replace("blind", "no model:")
            axes.plot(*curve(evaluation), color=GREY, linestyle=dashes, label=label)
        axes.set(xlabel="false-positive rate", ylabel="true-positive rate", aspect="equal")
        axes.set_title(f"{axes.get_title()}\n→ {result.report.verdict.kind}")
    legend_of(figure, panels[0])
    save(figure, "classifiers")


def draw_controls(bed: Bed) -> None:
    figure, panels = panels_of("members are its training images", "neither was seen; “members” are easier")
    unseen = np.concatenate([bed.unseen, bed.others])
    easiest_first = unseen[np.argsort(distances_by_another_model(bed, unseen), kind="stable")]
    sides = (
        (str(bed.directory / "seen"), bed.beside()),
        (bed.write("easy", easiest_first[:200]), bed.write("not easy", easiest_first[200:])),
    )
    for axes, (members, nonmembers) in zip(panels, sides, strict=True):
        data = {"members": members, "nonmembers": nonmembers, "reference": bed.reference}
        chosen = {"target": str(bed.target), "data": data, "attacks": {"names": ["threshold"]}}
        report = audit(settings=read_settings(None, bed.common | chosen)).report
        aucs = {"target": report.evaluations[0].auc} | {each.model: each.auc for each in report.validity.controls}
        axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":")
        for place, (name, auc) in enumerate(aucs.items()):
            draw_interval(axes, place, auc, MEMBERS if name == "target" else NONMEMBERS)
        axes.set_yticks(range(len(aucs)), aucs if axes is panels[0] else [])
        axes.set(xlabel="AUC of the threshold attack", xlim=(0.4, 1), ylim=(len(aucs) - 0.5, -0.5))
        axes.set_title(f"{axes.get_title()}\n→ {report.verdict.kind}")
    save(figure, "controls")


def draw_near_duplicates(bed: Bed) -> None:
    generator = np.random.default_rng(0)
    seen = bed.seen[:6]
    brighter = np.minimum(seen[2:4].astype(int) + 40, 255).astype(np.uint8)
    noise = generator.integers(-12, 13, seen[4:].shape)
    noisy = (seen[4:].astype(int) + noise).clip(0, 255).astype(np.uint8)
    others = np.concatenate([seen[:2, ..., ::-1], brighter, noisy, bed.others])
    what = ["mirrored", "mirrored", "brighter", "brighter", "with noise", "with noise"]
    found = {pair.first: pair for pair in near_duplicates(seen, others)}
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    grid = figure.subplots(2, len(seen))
    for place, (name, column) in enumerate(zip(what, grid.T, strict=True)):
        show(column[0], seen[place][0])
        show(column[1], others[found[place].second][0])
        column[0].set_title(name)
        column[1].set_xlabel(f"{found[place].correlation:.3f}")
    grid[0, 0].set_ylabel("member")
    grid[1, 0].set_ylabel("non-member")
    save(figure, "near-duplicates")


def draw_sign(bed: Bed) -> None:
    figure, panels = panels_of("the distance, negated: small for members", "the distance itself, taken for the score")
    leak = bed.leak()
    scores = np.array(leak.scores["threshold score"], dtype=np.float64)
    roles = np.array(leak.scores["role"])
    auc = next(each.auc for each in leak.report.evaluations if each.attack == "threshold").value or 0.0
    for axes, sign in zip(panels, (1, -1), strict=True):
        edges = np.histogram_bin_edges(sign * scores, 30)
        for role, colour, name in (("member", MEMBERS, "members"), ("nonmember", NONMEMBERS, "non-members")):
            proportion = np.histogram(sign * scores[roles == role], edges)[0] / (roles == role).sum()
            axes.stairs(proportion, edges, fill=True, color=colour, alpha=0.3)
            axes.stairs(proportion, edges, color=colour, label=name)
        axes.set(xlabel="score", ylabel="proportion of images")
        axes.set_title(f"{axes.get_title()}\nAUC {auc if sign > 0 else 1 - auc:.2f}")
    legend_of(figure, panels[0])
    save(figure, "sign")


def draw_reconstruction(bed: Bed) -> None:
    seen = load_sides({"source": str(bed.directory / "seen")}, Store(bed.common["store"])).images
    images = seen.take(np.arange(100))
    shown = images.take(np.arange(4))
    mistaken = bed.directory / "mistaken"
    shutil.copytree(bed.target, mistaken)
    config = json.loads((mistaken / native.CONFIG).read_text())
    config["spec"] |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    (mistaken / native.CONFIG).write_text(json.dumps(config))
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    grid = figure.add_gridspec(1, 2)
    halves = [figure.add_subfigure(grid[0, column]) for column in range(2)]
    for half, directory, name in zip(
        halves, (bed.target, mistaken), ("pixels as in training", "pixels not normalised"), strict=True
    ):
        model = native.load(directory)
        on_cpu = read_settings(None, {"compute": {"device": "cpu"}}).compute
        error = reconstruction_errors(model, images, on_cpu).relative
        half.suptitle(f"{name}\nerror {error:.2f} of that of the mean colour")
        exhibits = make_gallery(model, shown, [""] * len(shown), np.zeros(len(shown)), SignalSettings())
        cells = half.subplots(len(shown), 3)
        for row, exhibit in zip(cells, exhibits, strict=True):
            for axes, uri in zip(row, (exhibit.original, exhibit.masked, exhibit.reconstructed), strict=True):
                show(axes, np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))))
        for axes, title in zip(cells[0], ("original", "masked", "rebuilt"), strict=True):
            axes.set_title(title)
    save(figure, "reconstruction")


def draw_number_of_images() -> None:
    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.subplots()
    sizes = np.unique(np.geomspace(20, 10_000, 40).astype(int))
    for attacks, colour in ((1, NONMEMBERS), (10, MEMBERS)):
        aucs = [detectable_auc(size, size, 0.05 / attacks) for size in sizes]
        axes.plot(sizes, aucs, color=colour, linewidth=2, label=f"{attacks} attack{'s' * (attacks > 1)}")
    axes.set(xscale="log", xlabel="images of each side", ylabel="AUC found with 90 %", ylim=(0.5, None))
    axes.legend(frameon=False)
    save(figure, "number-of-images")


def panels_of(*titles: str) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    panels = figure.subplots(1, len(titles))
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
    return figure, panels


def deciding(result: AuditResult) -> Evaluation:
    return next(each for each in result.report.evaluations if each.attack == result.report.deciding)


def curve(evaluation: Evaluation) -> tuple[list[float], list[float]]:
    return evaluation.fpr, evaluation.tpr


def draw_interval(axes: Axes, place: int, auc: Estimate, colour: str) -> None:
    assert auc.value is not None
    axes.plot([auc.low or 0.0, auc.high or 0.0], [place, place], color=colour, linewidth=2)
    axes.plot([auc.value], [place], color=colour, marker="o")
    axes.annotate(f"{auc.value:.2f}", (auc.value, place), (0, 7), textcoords="offset points", ha="center")


def legend_of(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)


def distances_by_another_model(bed: Bed, pixels: Pixels) -> Floats:
    """Return the reconstruction error of each image by a model that was trained on the reference pool, (N,)."""
    settings = read_settings(None, bed.common | {"data": {"source": bed.reference}})
    model = native.load(pretrain(settings, bed.directory / "another"))
    colours = np.repeat(pixels, 3, axis=1)
    masks = model.spec.scoring_masks(np.array([content_id(each) for each in colours]), 16, 0)
    with torch.inference_mode():
        distances: Floats = model.distances(torch.from_numpy(colours), torch.from_numpy(masks)).mean(dim=1).numpy()
    return distances


def show(axes: Axes, pixels: Pixels | Floats) -> None:
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])


def save(figure: Figure, name: str) -> None:
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None, "Creator": None})
    print(f"drew {name}")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as directory, mpl.rc_context(STYLE):
        settings = read_settings(None, {"store": f"{directory}/store", "compute": {"device": "cpu"}})
        bed = Bed(settings, Path(directory))
        draw_classifiers(bed)
        draw_controls(bed)
        draw_near_duplicates(bed)
        draw_sign(bed)
        draw_reconstruction(bed)
        draw_number_of_images()


if __name__ == "__main__":
    main()
