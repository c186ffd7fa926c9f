"""What the attack needs of a MIM model, whatever its family."""

from typing import Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor

from mimia.masking import visible_count

TargetSpace = Literal["normalised", "patch-normalised"]
"""The pixel space in which a model predicts: data-set-normalised, or normalised patch by patch."""


class ModelSpec(BaseModel):
    """Images that a model takes, how they are masked, and the space in which it predicts them.

    Attributes:
        image_size: Height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
        patch_size: Height and width of a patch in pixels.
        mask_ratio: Share of the patches that is masked in pre-training.
        target_space: Pixel space of the predictions and so of the distances.
        mean: Mean of each channel, raw pixels in [0, 1].
        std: Standard deviation of each channel, raw pixels in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int
    channels: Literal[1, 3]
    patch_size: int
    mask_ratio: float
    target_space: TargetSpace
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSpec":
        if self.image_size % self.patch_size:
            raise ValueError(
                f"patches of {self.patch_size} px do not tile images of {self.image_size} px: "
                f"choose a patch size that divides {self.image_size}"
            )
        if not 0 < visible_count(self.tokens, self.mask_ratio) < self.tokens:
            raise ValueError(
                f"a mask ratio of {self.mask_ratio} on {self.tokens} patches leaves none visible or none "
                "masked: choose another ratio or smaller patches"
            )
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need one value for each of {self.channels} channels")
        return self

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Patches of an image, L."""
        return self.grid**2

    @property
    def visible(self) -> int:
        """Patches that stay visible in pre-training."""
        return visible_count(self.tokens, self.mask_ratio)

    def normalise(self, images: Tensor) -> Tensor:
        """Bring raw pixels, uint8 or float in [0, 1], (B, C, H, W), to data-set-normalised pixels."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        return (pixels - mean) / std


class Reconstructor(Protocol):
    """A MIM model.

    Images are raw pixels, (B, C, H, W), uint8 or float in [0, 1]; masks are booleans, (B, K, L), True where
    masked, with the same number of visible patches in every row.
    """

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and predicts."""
        ...

    def tokens(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the visible patches: (B, K, visible, D), in the order of the patches."""
        ...

    def reconstruct(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict all patches in the model's target space: (B, K, L, p*p*C), values in order (p, q, c)."""
        ...

    def distances(self, images: Tensor, masks: Tensor) -> Tensor:
        """Mean squared error over the masked patches, in the model's target space: (B, K)."""
        ...
