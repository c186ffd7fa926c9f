"""What pre-training and attacks need of a masked-image model, whatever its family."""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from torch import Tensor, nn

from mimia.config.sizes import Size, height_and_width, sides
from mimia.models import masking
from mimia.models.masking import MaskKind
from mimia.models.patches import patch_statistics, patchify, unpatchify
from mimia.models.sizes import MOST_CHANNELS, MOST_TOKENS
from mimia.runtime.arrays import Bools, Ids

TargetSpace = Literal["normalised", "patch-normalised", "tokens", "latents"]
"""What a model predicts: data-set-normalised pixels, pixels normalised patch by patch, discrete visual tokens, or what
its own encoder makes of the patches of the whole image."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ModelSpec(BaseModel):
    """Images that a model takes, how they are masked, and the space in which it predicts them.

    Attributes:
        image_size: Side of square images in pixels, or height and width.
        channels: 1 (grey), 3 (RGB), or the number of bands.
        patch_size: Height and width of a patch in pixels.
        masking: How patches are chosen in pre-training.
        mask_ratio: Proportion of the patches that is masked in pre-training.
        cell: Patches along one side of a cell, which is masked as a whole (masking by cells only).
        target_space: Space of the predictions and so of the distances.
        mean: Mean of each channel, raw pixels in [0, 1].
        std: Standard deviation of each channel, raw pixels in [0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_size: Size
    channels: PositiveInt = Field(le=MOST_CHANNELS)
    patch_size: PositiveInt
    masking: MaskKind = "random"
    mask_ratio: float = Field(gt=0, lt=1)
    cell: PositiveInt = 1
    target_space: TargetSpace
    mean: tuple[Annotated[float, Field(ge=-1000, le=1000)], ...] = _IMAGENET_MEAN
    std: tuple[Annotated[float, Field(ge=1e-9, le=1000)], ...] = _IMAGENET_STD

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSpec":
        shown = sides(self.image_size)
        if any(side % self.patch_size for side in self.shape[1:]):
            raise ValueError(
                f"patches of {self.patch_size} px do not tile images of {shown} px: "
                f"choose a patch size that divides {shown}"
            )
        if self.tokens > MOST_TOKENS:
            raise ValueError(
                f"images of {shown} px have {self.tokens:,} patches of {self.patch_size} px, and "
                f"{MOST_TOKENS:,} are the most: choose larger patches"
            )
        if any(side % self.cell for side in self.grid):
            raise ValueError(
                f"cells of {self.cell * self.patch_size} px do not tile images of {shown} px: choose cells that do"
            )
        if not 0 < self.visible < self.tokens:
            raise ValueError(
                f"a mask ratio of {self.mask_ratio} on {self.tokens} patches leaves none visible or none "
                "masked: choose another ratio or smaller patches"
            )
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need one value for each of {self.channels} channels")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.channels, *height_and_width(self.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        _, height, width = self.shape
        return height // self.patch_size, width // self.patch_size

    @property
    def tokens(self) -> int:
        """Patches of an image, L."""
        return math.prod(self.grid)

    @property
    def cells(self) -> int:
        """Cells of an image."""
        return self.tokens // self.cell**2

    @property
    def visible(self) -> int:
        """Patches that stay visible in pre-training (under blockwise masks, at least so many)."""
        match self.masking:
            case "random":
                return masking.visible_count(self.tokens, self.mask_ratio)
            case "cell":
                return masking.visible_cells(self.cells, self.mask_ratio) * self.cell**2
            case "blockwise":
                return self.tokens - round(self.tokens * self.mask_ratio)

    def scoring_masks(self, ids: Ids, draws: int, seed: int) -> Bools:
        """Masks of images, a pure function of (seed, image id, draw): (B, K, L)."""
        match self.masking:
            case "random":
                return masking.random_masks(ids, draws, self.tokens, self.mask_ratio, seed)
            case "cell":
                return masking.cell_masks(ids, draws, self.grid, self.cell, self.mask_ratio, seed)
            case "blockwise":
                return masking.blockwise_masks(ids, draws, self.grid, self.mask_ratio, seed)

    def complementary_masks(self, ids: Ids, draws: int, seed: int) -> Bools:
        """Masks in groups that show each patch at most once, a pure function as `scoring_masks`: (B, K, L).

        Rectangles cannot be spread so: under blockwise masking these are ordinary masks.
        """
        match self.masking:
            case "random":
                return masking.complementary_masks(ids, draws, self.tokens, self.visible, seed)
            case "cell":
                masks = masking.complementary_masks(ids, draws, self.cells, self.visible // self.cell**2, seed)
                return masking.spread_cells(masks, self.grid, self.cell)
            case "blockwise":
                return self.scoring_masks(ids, draws, seed)

    def training_masks(self, batch: int, generator: torch.Generator) -> Tensor:
        """One mask for each image of a batch, from the generator and on its device: (B, 1, L)."""
        match self.masking:
            case "random":
                return masking.draw_random_masks(batch, self.tokens, self.mask_ratio, generator)
            case "cell":
                return masking.draw_cell_masks(batch, self.grid, self.cell, self.mask_ratio, generator)
            case "blockwise":
                return masking.draw_blockwise_masks(batch, self.grid, self.mask_ratio, generator)

    def normalise(self, images: Tensor) -> Tensor:
        """Bring raw pixels, uint8 or float in [0, 1], (B, C, H, W), to data-set-normalised pixels."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(-1, 1, 1)
        return (pixels - mean) / std

    def denormalise(self, pixels: Tensor) -> Tensor:
        """Bring data-set-normalised pixels, (B, C, H, W), to raw pixels, where [0, 1] is what can be shown."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return pixels * std + mean


class Architecture(BaseModel):
    """Sizes of a model; the class, and so the family, follow from the field ``family``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written only where they are set, so that models from before there were these fields are found."""

    family: str

    @model_serializer(mode="wrap")
    def _without_unset_later(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unset = {name for name in self.later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in serialise(self).items() if name not in unset}


class MaskedImageModel(nn.Module, ABC):
    """A masked-image model of any family, as pre-training and attacks use it.

    Images are raw pixels, (B, C, H, W), uint8 or float in [0, 1]; masks are booleans, (B, K, L), True where
    masked.

    Attributes:
        spec: What the model takes and predicts.
        architecture: Its sizes; the class follows from them.
    """

    spec: ModelSpec
    architecture: Architecture

    def __repr__(self) -> str:
        weights = sum(value.numel() for value in self.parameters())
        shape = "×".join(map(str, self.spec.shape))
        return (
            f"<{self.architecture.family} with {weights:,} parameters for images of {shape} in patches of "
            f"{self.spec.patch_size}>"
        )

    @property
    @abstractmethod
    def has_decoder(self) -> bool:
        """Whether it can reconstruct, or is an encoder alone."""

    @abstractmethod
    def tokens(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the visible patches: (B, K, visible, D), in the order of the patches.

        Every mask must leave the same number of patches visible.
        """

    @abstractmethod
    def reconstruct(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict all patches in the model's target space: (B, K, L, p*p*C), values in the order (p, q, c)."""

    @abstractmethod
    def patch_errors(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Return the family's training loss of each predicted patch: (B, K, L).

        Args:
            predictions: In the model's target space, (B, K, L, p*p*C).
            images: Raw pixels.
        """

    def errors(self, predictions: Tensor, images: Tensor, masks: Tensor) -> Tensor:
        """Return the family's training loss of predictions, over the masked patches of each image: (B, K).

        Args:
            predictions: In the model's target space, (B, K, L, p*p*C).
            images: Raw pixels.
            masks: (B, K, L).
        """
        return (self.patch_errors(predictions, images) * masks).sum(dim=-1) / masks.sum(dim=-1)

    def distances(self, images: Tensor, masks: Tensor) -> Tensor:
        """Return the family's training loss of each image under each mask, over its masked patches: (B, K)."""
        return self.errors(self.reconstruct(images, masks), images, masks)

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Training loss: the mean of the distances; a scalar."""
        return self.distances(images, masks).mean()

    def in_pixels(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Bring predictions of pixels to data-set-normalised ones: (B, K, L, p*p*C).

        Args:
            predictions: In the model's target space, which is one of pixels, (B, K, L, p*p*C).
            images: Raw pixels.
        """
        if self.spec.target_space != "patch-normalised":
            return predictions
        # A prediction has no mean and variance of its own: it gets the true ones of its patch.
        mean, spread = patch_statistics(patchify(self.spec.normalise(images), self.spec.patch_size))
        return predictions * spread.unsqueeze(1) + mean.unsqueeze(1)

    def pictures(self, images: Tensor, masks: Tensor) -> Tensor:
        """Reconstruct whole images as raw pixels, where [0, 1] is what can be shown: (B, K, C, H, W)."""
        spec = self.spec
        patches = self.in_pixels(self.reconstruct(images, masks), images)
        pixels = unpatchify(patches.flatten(0, 1), spec.patch_size, spec.grid)
        return spec.denormalise(pixels).view(*masks.shape[:2], *pixels.shape[1:])
