"""Small networks that classify members of shadows, for the attacks whose papers train one."""

from itertools import pairwise
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.runtime.arrays import Bools, Floats
from mimia.runtime.seeds import torch_generator

_BATCH = 100
_CONSTANT = 1e-6  # times its mean: a smaller deviation of a number is rounding error


class Classifier:
    """A network with one output, trained by Adam on the class-balanced binary cross-entropy.

    Args:
        module: (rows, numbers) -> (rows, 1); its linear layers are initialised from the seed.
        epochs: Passes over the rows.
        seed: Seed of weights and order.
        weight_decay: Weight decay of Adam, whose learning rate is 1e-3.
        exchangeable: Whether the numbers of a row are a set, and are all scaled alike.
    """

    def __init__(
        self, module: nn.Module, epochs: int, seed: int, *, weight_decay: float = 0.0, exchangeable: bool = False
    ) -> None:
        self.module = module
        self.epochs = epochs
        self.seed = seed
        self.weight_decay = weight_decay
        self.exchangeable = exchangeable

    def fit(self, features: Floats, labels: Bools) -> Self:
        """Train on features, (rows, numbers), and membership, (rows,)."""
        axis = None if self.exchangeable else 0
        self.mean = features.mean(axis=axis, dtype=np.float64)
        spread = features.std(axis=axis, dtype=np.float64)
        self.spread = np.where(spread > _CONSTANT * np.abs(self.mean), spread, np.inf)
        generator = torch_generator("cpu", self.seed, "classifier")
        for module in self.module.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu", generator=generator)
                nn.init.zeros_(module.bias)
        rows, targets = self._scaled(features), torch.from_numpy(labels).float()
        balance = torch.tensor((~labels).sum() / max(labels.sum(), 1), dtype=torch.float32)
        optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-3, weight_decay=self.weight_decay)
        for _ in range(self.epochs):
            for chosen in torch.split(torch.randperm(len(rows), generator=generator), _BATCH):
                loss = F.binary_cross_entropy_with_logits(
                    self.module(rows[chosen])[:, 0], targets[chosen], pos_weight=balance
                )
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
        return self

    def predict(self, features: Floats) -> Floats:
        """Return the log-odds of membership, (rows,)."""
        with torch.inference_mode():
            odds: Floats = self.module(self._scaled(features))[:, 0].double().numpy()
        return odds

    def _scaled(self, features: Floats) -> Tensor:
        return torch.from_numpy((features - self.mean) / self.spread).float()


def perceptron(*widths: int) -> nn.Sequential:
    """Return a perceptron with these widths from input to output, and ReLUs between its layers.

    >>> [tuple(value.shape) for value in perceptron(4, 8, 1).parameters()]
    [(8, 4), (8,), (1, 8), (1,)]
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
