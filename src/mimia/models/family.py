"""What a model family declares, in the one module that it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mimia.config.recipes import Recipe
from mimia.models.base import Architecture, MaskedImageModel, ModelSpec, TargetSpace
from mimia.models.masking import MaskKind

if TYPE_CHECKING:
    from mimia.models.tokenizer import TokenizerArchitecture


@dataclass(frozen=True)
class DecoderInterface:
    """How a decoder is put on the frozen encoder of a family: one that is fitted to it, or another model's.

    Attributes:
        contains: Whether a parameter belongs to the decoder, by its name.
        attach: Returns the architecture of an encoder with a decoder of the same sizes as another architecture has.
        latents: Returns what the decoder's first layer reads of some images under masks, one row for each patch or
            token: model, (B, C, H, W), (B, K, L) -> (rows, D). Two models that see the same images under the same masks
            have the same rows.
        first_layer: Returns the decoder's first layer, linear in the latents: ``nn.Linear``, or a 1 × 1 ``nn.Conv2d``.
        masked_patch: End of the name of the encoder's parameter that stands in the place of masked patches. Exports of
            encoders often lack it; then it belongs to the decoder, and is fitted with it.
        predicts_latents: Whether a decoder can be fitted that predicts the encoder's own latents.
    """

    contains: Callable[[str], bool]
    attach: Callable[[Any, Any], Architecture]
    latents: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
    first_layer: Callable[[Any], torch.nn.Linear | torch.nn.Conv2d]
    masked_patch: str | None = None
    predicts_latents: bool = False

    def is_mask_token(self, name: str) -> bool:
        """Return whether a parameter is the encoder's mask token."""
        return self.masked_patch is not None and name.endswith(self.masked_patch)


@dataclass(frozen=True)
class Family:
    """A family of masked-image models, registered by one line in `mimia.config.families` or by an entry point.

    Attributes:
        architecture: Class of its architectures; the default of the field ``family`` names it in saved checkpoints.
        build: Returns a model of a spec and an architecture, with initial weights from the generator. Without one, a
            checkpoint fills the weights.
        architecture_for: Returns the architecture that a recipe names, for the images of a spec and, if the family
            predicts tokens, for a given tokenizer. Raises `MimiaError` if there is none.
        presets: Named recipes.
        masking: How patches are chosen in pre-training.
        target_space: Space of the predictions.
        recipe_keys: Those of ``patch_normalised``, ``cell`` and ``vocabulary`` that its recipes take.
        on_meta: Whether ``build`` without a generator works on torch's meta device, where a model takes no memory.
        exported_layout: Name of the checkpoint layout that its models are exported to, if there is one.
        decoder: How a decoder is put on a frozen encoder; None: encoders without a decoder have no reconstruction.
    """

    architecture: type[Architecture]
    build: Callable[[ModelSpec, Any, torch.Generator | None], MaskedImageModel]
    architecture_for: Callable[[Recipe, ModelSpec, "TokenizerArchitecture | None"], Architecture]
    presets: Mapping[str, Mapping[str, Any]]
    masking: MaskKind
    target_space: TargetSpace
    recipe_keys: frozenset[str] = frozenset()
    on_meta: bool = False
    exported_layout: str | None = None
    decoder: DecoderInterface | None = None

    @property
    def architecture_name(self) -> str:
        """Name of the architecture in saved checkpoints."""
        name: str = self.architecture.model_fields["family"].default
        return name

    @property
    def predicts_tokens(self) -> bool:
        """Whether it predicts visual tokens instead of pixels."""
        return self.target_space == "tokens"
