"""The tables and figures of *Membership Inference Attack Against Masked Image Modeling* (arXiv 2408.06825) as grids."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from mimia.experiments.grid import Cell, Experiment, Profile, Tree
from mimia.experiments.pages import curve_pages, distribution_pages, matrix_pages, table_pages
from mimia.experiments.paper_profiles import (
    AUGMENTATIONS,
    CALIBRATED,
    DATA,
    DISTANCES,
    EPOCH_COUNTS,
    FAMILIES,
    FOR_DOWNSTREAM,
    HALF,
    MASK_COUNTS,
    MASK_RATIOS,
    PATCHES,
    SIZES,
    STRONGEST,
    THRESHOLD,
    TRAINING_SETS,
    cell_of,
    data_path,
    on_data,
)
from mimia.experiments.tradeoff import utility_pages


def main_table(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return the attack and its rivals on each architecture and data set."""
    attacks = {"attacks": {"names": ("threshold", "calibrated", "ensemble", "encodermi-v", "partcrop")}}
    return [
        cell_of(profile, {"data": source, "architecture": family}, on_data(profile, data, source, family), attacks)
        for source, family in product(DATA[profile], FAMILIES[profile])
    ]


def downstream(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return a pre-training on each data set, whose encoder is then used downstream."""
    return [
        cell_of(profile, {"data": source}, on_data(profile, data, source), FOR_DOWNSTREAM[profile], THRESHOLD)
        for source in DATA[profile]
    ]


def end_to_end(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return one attack."""
    source = next(iter(DATA[profile]))
    return [cell_of(profile, {"data": source}, on_data(profile, data, source), THRESHOLD)]


def distributions(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return the threshold attack on each data set."""
    return [cell_of(profile, {"data": source}, on_data(profile, data, source), THRESHOLD) for source in DATA[profile]]


def other_data(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return each data set of the target with each data set of the shadows."""
    of_one_size = {} if profile == "smoke" else {"data": {"image_size": 32}, "recipe": {"patch_size": 4}}
    return [
        cell_of(
            profile,
            {"target's data": source, "shadows' data": other},
            on_data(profile, data, source),
            {} if other == source else {"data": {"reference": data_path(profile, data, other)}},
            of_one_size,
            CALIBRATED,
        )
        for source, other in product(DATA[profile], repeat=2)
    ]


def other_mask_ratio(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return each mask ratio of the target with each mask ratio of the shadows."""
    return _crossed(profile, data, _of_figure_5(profile), "mask_ratio", MASK_RATIOS[profile])


def complexity(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return models of four sizes, without the ensemble, whose queries of the larger ones would take hours."""
    source = next(iter(DATA[profile]))
    return [
        cell_of(
            profile,
            {"size": size},
            on_data(profile, data, source),
            HALF[profile],
            {"recipe": {"size": size}},
            CALIBRATED,
        )
        for size in SIZES[profile]
    ]


def mask_ratio(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return growing mask ratios of target and shadows alike: those of figure 5."""
    ratios = {ratio: {"recipe": {"mask_ratio": ratio}} for ratio in MASK_RATIOS[profile]}
    return _along(profile, data, "mask ratio", ratios, _of_figure_5(profile))


def epochs(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return one training of the target and of each shadow, audited at several of its epochs."""
    *earlier, last = EPOCH_COUNTS[profile]
    return _along(profile, data, "epochs", {epoch: {"recipe": {"stop_epoch": epoch}} for epoch in earlier} | {last: {}})


def training_set(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return training sets of growing size, each for as many epochs."""
    return _along(
        profile, data, "training images", {count: {"split": {"n_members": count}} for count in TRAINING_SETS[profile]}
    )


def masks(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return growing numbers of masks under which an image is queried."""
    return _along(profile, data, "masks", {count: {"signals": {"draws": count}} for count in MASK_COUNTS[profile]})


def distance(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return each distance between image and reconstruction, over the masked patches, the visible ones, and all."""
    source = next(iter(DATA[profile]))
    return [
        cell_of(
            profile,
            {"distance": measure, "patches": patches},
            on_data(profile, data, source),
            {"signals": {"distance": measure, "patches": patches}},
            CALIBRATED,
        )
        for measure, patches in product(DISTANCES[profile], PATCHES[profile])
    ]


def other_architecture(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return shadows of several sizes."""
    return _along(profile, data, "shadows' size", {size: {"shadows": {"size": size}} for size in SIZES[profile][:3]})


def other_recipe(profile: Profile, data: Path) -> Sequence[Cell]:
    """Return each augmentation of the target with each augmentation of the shadows."""
    return _crossed(profile, data, next(iter(DATA[profile])), "augmentation", AUGMENTATIONS[profile])


def _crossed(profile: Profile, data: Path, source: str, key: str, values: Sequence[str | float]) -> Sequence[Cell]:
    """Return each value of a key of the target's recipe with each value of the shadows'."""
    axis = key.replace("_", " ")
    return [
        cell_of(
            profile,
            {f"target's {axis}": own, f"shadows' {axis}": other},
            on_data(profile, data, source),
            {"recipe": {key: own}, "shadows": {key: other}},
            CALIBRATED,
        )
        for own, other in product(values, repeat=2)
    ]


def _of_figure_5(profile: Profile) -> str:
    return next(iter(DATA[profile])) if profile == "smoke" else "TinyImageNet"


def _along(
    profile: Profile, data: Path, axis: str, values: dict[Any, Tree], source: str | None = None
) -> Sequence[Cell]:
    source = source or next(iter(DATA[profile]))
    return [
        cell_of(profile, {axis: value}, on_data(profile, data, source), tree, STRONGEST)
        for value, tree in values.items()
    ]


TABLE_MAIN = Experiment(
    "How does the attack compare with its rivals, on each architecture and data set?", main_table, table_pages
)
FIGURE_1 = Experiment("How useful is a pre-trained encoder downstream?", downstream, utility_pages)
FIGURE_2 = Experiment("What is one attack, end to end?", end_to_end, distribution_pages)
FIGURE_3 = Experiment("How do the distances of members and non-members differ?", distributions, distribution_pages)
FIGURE_4 = Experiment("What if the shadows' data are not the target's?", other_data, matrix_pages)
FIGURE_5 = Experiment("What if the shadows' mask ratio is not the target's?", other_mask_ratio, matrix_pages)
COMPLEXITY = Experiment("Do larger models leak more?", complexity, curve_pages)
MASK_RATIO = Experiment("At which mask ratio do models leak most?", mask_ratio, curve_pages)
EPOCHS = Experiment("Do models leak more the longer they are trained?", epochs, curve_pages)
TRAIN_SIZE = Experiment("Do smaller training sets leak more?", training_set, curve_pages)
MASKS = Experiment("How many masks does an attack need?", masks, curve_pages)
DISTANCE = Experiment(
    "Which distance between image and reconstruction, over which patches, leaks most?", distance, matrix_pages
)
ARCHITECTURE_MISMATCH = Experiment(
    "What if the shadows are of another size than the target?", other_architecture, curve_pages
)
RECIPE_MISMATCH = Experiment("What if the shadows' augmentation is not the target's?", other_recipe, matrix_pages)
