"""All experiments by their names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimia.errors import MimiaError
from mimia.experiments import attacks, defences, paper
from mimia.experiments.grid import Cell, Profile
from mimia.experiments.render import (
    Pages,
    comparison_pages,
    curve_pages,
    distribution_pages,
    matrix_pages,
    table_pages,
)
from mimia.experiments.results import CellResult
from mimia.experiments.tradeoff import tradeoff_pages, utility_pages


@dataclass(frozen=True)
class Experiment:
    """What one command reproduces.

    Attributes:
        question: What it answers.
        cells: From a profile and the folder of the data to the audits.
        pages: From the results to tables and figures.
    """

    question: str
    cells: Callable[[Profile, Path], Sequence[Cell]]
    pages: Callable[[Sequence[CellResult]], Pages]


EXPERIMENTS: dict[str, Experiment] = {
    "attacks": Experiment("Which attack is the strongest, on equal terms?", attacks.cells, comparison_pages),
    "table-main": Experiment(
        "How does the attack do beside its rivals, on each architecture and data set?", paper.main_table, table_pages
    ),
    "figure-1": Experiment("What is a pre-trained encoder good for downstream?", paper.downstream, utility_pages),
    "figure-2": Experiment("What is one attack, end to end?", paper.end_to_end, distribution_pages),
    "figure-3": Experiment(
        "How do the distances of members and non-members differ?", paper.distributions, distribution_pages
    ),
    "figure-4": Experiment("What if the shadows' data are not the target's?", paper.other_data, matrix_pages),
    "figure-5": Experiment(
        "What if the shadows' mask ratio is not the target's?", paper.other_mask_ratio, matrix_pages
    ),
    "complexity": Experiment("Do larger models leak more?", paper.complexity, curve_pages),
    "mask-ratio": Experiment("At which mask ratio do models leak most?", paper.mask_ratio, curve_pages),
    "epochs": Experiment("Do models leak more the longer they are trained?", paper.epochs, curve_pages),
    "train-size": Experiment("Do smaller training sets leak more?", paper.training_set, curve_pages),
    "masks": Experiment("How many masks does an attack need?", paper.masks, curve_pages),
    "distance": Experiment(
        "Which distance between image and reconstruction, over which patches, leaks most?", paper.distance, matrix_pages
    ),
    "architecture-mismatch": Experiment(
        "What if the shadows are of another size than the target?", paper.other_architecture, curve_pages
    ),
    "recipe-mismatch": Experiment(
        "What if the shadows' augmentation is not the target's?", paper.other_recipe, matrix_pages
    ),
    "defences": Experiment("What defends, and what does it cost?", defences.cells, tradeoff_pages),
}


def experiment_of(name: str) -> Experiment:
    """Give an experiment.

    Raises:
        MimiaError: There is none of this name.
    """
    if name not in EXPERIMENTS:
        raise MimiaError(f"There is no experiment {name!r}: choose from {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]
