"""Families that live in transformers alone, behind our interface and trained as in SimMIM (arXiv 2111.09886).

Parameters have the names that transformers' class gives them in memory; what its files call them is not ours.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mimia.config.recipes import SizeName
from mimia.config.sizes import collapsed, sides
from mimia.models.base import Architecture, MaskedImageModel, ModelSpec
from mimia.models.family import DecoderInterface, Family
from mimia.models.patches import equal_visible, patchify, refuse_masks
from mimia.models.simmim import IMAGENET_RECIPE, SMALL_RECIPE, absolute_errors
from mimia.models.sizes import CheckedConfig
from mimia.runtime.errors import MimiaError

ModelType = Literal["deit", "focalnet", "swin", "swinv2", "vit"]

_SPECIAL_TOKENS: dict[ModelType, int] = {"vit": 1, "deit": 2}  # before the patches; the others merge patches instead
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")


class HuggingFaceArchitecture(Architecture):
    """A class of transformers, and the settings of its configuration.

    Attributes:
        model_type: transformers' name of the family.
        config: Settings of the configuration, without those that follow from the `ModelSpec` (image size, patch size,
            channels) and without dropout, which is always 0.
        decoder: Whether the model can reconstruct, or is an encoder alone.
        mask_token: Whether the encoder has a token for masked patches, which exports of an encoder alone may lack.
        shifted: Whether a DeiT predicts each patch from the token before its own, as transformers did before 5.9.
    """

    later: ClassVar[frozenset[str]] = frozenset({"mask_token", "shifted"})

    family: Literal["transformers"] = "transformers"
    model_type: ModelType
    config: CheckedConfig
    decoder: bool = True
    mask_token: bool = True
    shifted: bool = False


_SWIN: dict[SizeName, tuple[int, list[int], list[int], int]] = {  # width, depths and heads of the stages, window
    "nano": (32, [2, 2], [2, 4], 4),  # for digits of 8 pixels, in patches of 1
    "micro": (32, [2, 2, 2], [2, 4, 8], 4),  # for images of 32 pixels, in patches of 2
    "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7),
    "base": (128, [2, 2, 18, 2], [4, 8, 16, 32], 6),  # from here on as in the paper
    "large": (192, [2, 2, 18, 2], [6, 12, 24, 48], 12),
}


def swin_architecture(size: SizeName, spec: ModelSpec) -> HuggingFaceArchitecture:
    """Return a Swin Transformer (Liu et al., arXiv 2103.14030) of a size for the images of a spec.

    Each stage but the last halves the grid. transformers has one window for all stages, so that it is at most the
    grid of the last one.

    Raises:
        MimiaError: There is none of this size, or its stages do not fit the images.
    """
    if size not in _SWIN:
        raise MimiaError(f"There is no Swin of the size {size}: choose one of {', '.join(_SWIN)}.")
    width, depths, heads, window = _SWIN[size]
    merged = 2 ** (len(depths) - 1)  # patches along one side of a last token
    if any(side % merged for side in spec.grid):
        shown = sides(collapsed(spec.grid))
        raise MimiaError(
            f"A Swin of the size {size} halves its grid {len(depths) - 1} times, and the images have {shown} patches "
            f"along a side: choose a patch size that makes it a multiple of {merged}."
        )
    return HuggingFaceArchitecture(
        model_type="swin",
        config={
            "embed_dim": width,
            "depths": [*depths],
            "num_heads": [*heads],
            "window_size": min(window, min(spec.grid) // merged),
            "encoder_stride": spec.patch_size * merged,
        },
    )


class HuggingFaceModel(MaskedImageModel):
    """A model of ``AutoModelForMaskedImageModeling``: it predicts the pixels of masked patches.

    Args:
        spec: Images, masking and target space.
        architecture: Class of transformers and its configuration.
        generator: Source of the initial weights; without it they are there for a checkpoint to replace.
    """

    def __init__(
        self,
        spec: ModelSpec,
        architecture: HuggingFaceArchitecture,
        generator: torch.Generator | None = None,
    ) -> None:
        from transformers import AutoConfig, AutoModelForMaskedImageModeling

        super().__init__()
        self.spec = spec
        self.architecture: HuggingFaceArchitecture = architecture
        config = AutoConfig.for_model(architecture.model_type, **configuration(spec, architecture.config))
        classes: Any = AutoModelForMaskedImageModeling
        with weights_from(generator):
            self.model = classes.from_config(config)
        if not architecture.decoder:
            del self.model.decoder
        if not architecture.mask_token:
            self.model.base_model.embeddings.mask_token = None

    @property
    def has_decoder(self) -> bool:
        """Whether it can reconstruct, or is an encoder alone."""
        return self.architecture.decoder

    def tokens(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the visible patches: (B, K, visible, D).

        A model that merges patches from stage to stage (Swin, FocalNet) has no tokens of patches in the end: of such a
        model these are all tokens of the last stage, (B, K, last, D), whether their patches are visible or not.
        """
        encoded = self.encode(images, masks)
        special = _SPECIAL_TOKENS.get(self.architecture.model_type)
        if special is None:
            return encoded
        return encoded[:, :, special:][~masks].view(*masks.shape[:2], equal_visible(masks), -1)

    def encode(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the whole grid, as all tokens of the last layer, also those that are of no patch: (B, K, N, D).

        Raises:
            MimiaError: A patch is masked, and there is no mask token.
        """
        pixels, flat = for_each_mask(self.spec.normalise(images), masks)
        with outside_inference_mode():
            encoded: Tensor = self.model.base_model(pixels, **masked(flat, self.architecture)).last_hidden_state
        return encoded.view(*masks.shape[:2], *encoded.shape[1:])

    def latents(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode what is masked: (rows, D); of a model that merges patches, its last tokens with a masked patch."""
        encoded = self.encode(images, masks)
        special = _SPECIAL_TOKENS.get(self.architecture.model_type)
        if special is not None:
            return encoded[:, :, special:][masks]
        rows, columns = self.spec.grid
        merged = math.isqrt(rows * columns // encoded.shape[2])  # patches along one side of a last token
        hidden = F.max_pool2d(masks.view(-1, 1, rows, columns).float(), merged).bool()
        return encoded[hidden.view(encoded.shape[:3])]

    def reconstruct(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict all patches in data-set-normalised pixels: (B, K, L, p*p*C)."""
        if self.architecture.shifted:
            tokens = self.encode(images, masks)[:, :, 1:-1].flatten(0, 1)
            grid = tokens.mT.reshape(len(tokens), -1, *self.spec.grid)
            return patchify(self.model.decoder(grid), self.spec.patch_size).view(*masks.shape, -1).float()
        pixels, flat = for_each_mask(self.spec.normalise(images), masks)
        with outside_inference_mode():
            predicted: Tensor = self.model(pixels, bool_masked_pos=flat).reconstruction
        return patchify(predicted, self.spec.patch_size).view(*masks.shape, -1).float()

    def patch_errors(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Mean absolute error of each patch, in data-set-normalised pixels: (B, K, L)."""
        return absolute_errors(self.spec, predictions, images)


FAMILY = Family(
    architecture=HuggingFaceArchitecture,
    build=HuggingFaceModel,
    architecture_for=lambda recipe, spec, _: swin_architecture(recipe.size, spec),
    presets={
        "swin-nano": SMALL_RECIPE | {"size": "nano", "patch_size": 1, "cell": 2},
        "swin-micro": SMALL_RECIPE | {"size": "micro", "patch_size": 2, "cell": 4},
        "swin-base": IMAGENET_RECIPE | {"size": "base", "patch_size": 4, "cell": 8},
    },
    masking="cell",
    target_space="normalised",
    recipe_keys=frozenset({"cell"}),
    decoder=DecoderInterface(
        contains=lambda name: name.startswith("model.decoder."),
        attach=lambda encoder, _: encoder.model_copy(update={"decoder": True, "mask_token": True}),
        latents=HuggingFaceModel.latents,
        first_layer=lambda model: model.model.decoder[0],
        masked_patch=".embeddings.mask_token",
    ),
)  # not on_meta: some buffers of transformers' models are in no checkpoint


def configuration(spec: ModelSpec, config: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the settings of a configuration by those that follow from the spec.

    Dropout is off: it draws from the global random state, and a training has to be a function of its seed alone.

    Raises:
        MimiaError: The images are not square, for which transformers' models have no reconstruction.
    """
    if not isinstance(spec.image_size, int):
        raise MimiaError(
            f"Images of {sides(spec.image_size)} pixels are not square, and a model of transformers takes square ones "
            "alone: crop or scale them (--image-size N)."
        )
    of_spec: dict[str, Any] = {
        "image_size": spec.image_size,
        "patch_size": spec.patch_size,
        "num_channels": spec.channels,
    }
    return {**config} | of_spec | dict.fromkeys(_DROPOUTS, 0.0)


def for_each_mask(pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat images for their masks: (B, C, H, W), (B, K, L) -> (B*K, C, H, W), (B*K, L)."""
    return pixels.repeat_interleave(masks.shape[1], dim=0), masks.flatten(0, 1)


def masked(masks: Tensor, architecture: Any) -> dict[str, Tensor]:
    """Return the argument of transformers' encoders that hides patches; nothing for one without a mask token.

    Raises:
        MimiaError: A patch is masked, and there is no mask token.
    """
    if architecture.mask_token:
        return {"bool_masked_pos": masks}
    refuse_masks(masks)
    return {}


@contextmanager
def weights_from(generator: torch.Generator | None) -> Iterator[None]:
    """Seed the global random state, from which transformers draws initial weights, by a generator."""
    seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Replace inference mode, if it is on, by ``no_grad``.

    transformers keeps tensors between calls (BEiT's index of positions), for all models of the process. If such a
    tensor is made in inference mode, no model can be trained any more.
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            yield
    else:
        yield
