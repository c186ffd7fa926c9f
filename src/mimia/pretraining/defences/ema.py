"""Exponential moving average: the final weights are a running mean of those that the training passed through.

The average forgets the last steps on single images, and costs a copy of the weights (De et al., arXiv 2204.13650, use
it with DP-SGD).
"""

from typing import Any

from pydantic import Field
from torch.optim.swa_utils import AveragedModel

from mimia.config.defences import Defence
from mimia.config.recipes import Recipe
from mimia.pretraining.context import TrainingRun
from mimia.pretraining.hooks import TrainerHooks


class EMA(Defence):
    """Keep an exponential moving average of the weights instead of the last ones."""

    decay: float = Field(0.999, gt=0, lt=1, description="weight of the average so far in each step")

    def check(self, recipe: Recipe) -> None:
        """Raise `ValueError` if another defence chooses the final weights too."""
        if "early_stopping" in recipe.defences:
            raise ValueError("ema and early_stopping both choose the final weights: leave one of them out")

    def hooks(self) -> TrainerHooks:
        """Return new hooks for one training."""
        return _Hooks(self.decay)


class _Hooks(TrainerHooks):
    def __init__(self, decay: float) -> None:
        self._decay = decay

    def start(self, run: TrainingRun) -> None:
        super().start(run)
        self._average = AveragedModel(run.model, avg_fn=lambda mean, new, _: mean.lerp(new, 1 - self._decay))

    def on_step(self) -> None:
        self._average.update_parameters(self.run.model)

    def state(self) -> dict[str, Any]:
        return {"average": self._average.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state["average"])

    def finish(self, steps: int) -> dict[str, Any]:
        self.run.model.load_state_dict(self._average.module.state_dict())
        return {}
