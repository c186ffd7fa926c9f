"""All experiments by their names."""

from mimia.experiments.grid import Experiment
from mimia.runtime.registry import Registry

_PAPER = "mimia.experiments.paper"
EXPERIMENTS: Registry[Experiment] = Registry(
    "experiment",
    "mimia.experiments",
    {
        "attacks": "mimia.experiments.comparison:EXPERIMENT",
        "table-main": f"{_PAPER}:TABLE_MAIN",
        "figure-1": f"{_PAPER}:FIGURE_1",
        "figure-2": f"{_PAPER}:FIGURE_2",
        "figure-3": f"{_PAPER}:FIGURE_3",
        "figure-4": f"{_PAPER}:FIGURE_4",
        "figure-5": f"{_PAPER}:FIGURE_5",
        "complexity": f"{_PAPER}:COMPLEXITY",
        "mask-ratio": f"{_PAPER}:MASK_RATIO",
        "epochs": f"{_PAPER}:EPOCHS",
        "train-size": f"{_PAPER}:TRAIN_SIZE",
        "masks": f"{_PAPER}:MASKS",
        "distance": f"{_PAPER}:DISTANCE",
        "architecture-mismatch": f"{_PAPER}:ARCHITECTURE_MISMATCH",
        "recipe-mismatch": f"{_PAPER}:RECIPE_MISMATCH",
        "defences": "mimia.experiments.defences:EXPERIMENT",
    },
)
