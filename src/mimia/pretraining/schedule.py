"""Learning rate and parameter groups of MAE's recipe (He et al., arXiv 2111.06377, appendix A.1)."""

import math

from torch import nn
from torch.optim import AdamW

from mimia.config.recipes import Recipe


def learning_rate(step: int, steps: int, batch_size: int, recipe: Recipe) -> float:
    """Return the rate of a step: linear warm-up, then a cosine to 0; both move at every step.

    Args:
        step: 0 to ``steps - 1``.
        steps: Steps of the whole training.
        batch_size: Images of a step; the recipe's rate is for 256 and is scaled in proportion.
        recipe: Its rate and warm-up.
    """
    peak = recipe.base_learning_rate * batch_size / 256
    warmup = recipe.warmup * steps
    if step < warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def make_optimizer(model: nn.Module, recipe: Recipe) -> AdamW:
    """Return AdamW for a model; biases and the scales of LayerNorm are not decayed, the class and mask tokens are."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    decayed = [value for _, value in trained if value.ndim > 1]
    plain = [value for _, value in trained if value.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=recipe.base_learning_rate, betas=recipe.betas, fused=True)
