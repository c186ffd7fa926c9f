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

    @property
    def architecture_name(self) -> str:
        """Name of the architecture in saved checkpoints."""
        name: str = self.architecture.model_fields["family"].default
        return name

    @property
    def predicts_tokens(self) -> bool:
        """Whether it predicts visual tokens instead of pixels."""
        return self.target_space == "tokens"
