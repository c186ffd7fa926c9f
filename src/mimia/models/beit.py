"""BEiT (Bao et al., arXiv 2106.08254): a ViT that predicts the visual tokens of masked patches, as in transformers."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mimia.config.recipes import Recipe, SizeName
from mimia.models.base import Architecture, ModelSpec
from mimia.models.family import DecoderInterface, Family
from mimia.models.huggingface import configuration, for_each_mask, masked, outside_inference_mode, weights_from
from mimia.models.patches import equal_visible, unpatchify
from mimia.models.sizes import CheckedConfig, check_paired
from mimia.models.tokenizer import PatchTokenizer, TokenizerArchitecture, TokenModel, make_tokenizer
from mimia.models.vit import LAYER_NORM_EPS
from mimia.runtime.errors import MimiaError

_GREY = 0.5  # raw pixels in [0, 1], of patches whose tokens cannot be shown


class BEiTArchitecture(Architecture):
    """The configuration of a BEiT, and of what gives it its targets.

    Attributes:
        config: Settings of transformers' ``BeitConfig``, without those that follow from the `ModelSpec` (image size,
            patch size, channels) or the tokenizer (vocabulary), and without dropout, which is always 0.
        tokenizer: What gives the tokens that are predicted.
        decoder: Whether the model can predict tokens, or is an encoder alone, without a tokenizer.
        mask_token: Whether the encoder has a token for masked patches, which exports of an encoder alone may lack.
    """

    later: ClassVar[frozenset[str]] = frozenset({"mask_token"})

    family: Literal["beit"] = "beit"
    config: CheckedConfig
    tokenizer: TokenizerArchitecture
    decoder: bool = True
    mask_token: bool = True


_SIZES: dict[SizeName, tuple[int, int, int, float]] = {  # width, depth, heads, scale of the residuals at first
    "nano": (64, 3, 4, 0.1),
    "micro": (128, 4, 4, 0.1),
    "tiny": (192, 12, 3, 0.1),
    "small": (384, 12, 6, 0.1),
    "base": (768, 12, 12, 0.1),  # from here on as in the paper
    "large": (1024, 24, 16, 1e-5),
}


def beit_architecture(size: SizeName, tokenizer: TokenizerArchitecture) -> BEiTArchitecture:
    """Return a BEiT of a size.

    Raises:
        MimiaError: There is none of this size.
    """
    if size not in _SIZES:
        raise MimiaError(f"There is no BEiT of the size {size}: choose one of {', '.join(_SIZES)}.")
    width, depth, heads, scale = _SIZES[size]
    return BEiTArchitecture(
        config={
            "hidden_size": width,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "layer_norm_eps": LAYER_NORM_EPS,
            "layer_scale_init_value": scale,
            "use_shared_relative_position_bias": True,
        },
        tokenizer=tokenizer,
    )


class BEiT(TokenModel):
    """A BEiT with its tokenizer.

    Args:
        spec: Images, masking and target space.
        architecture: Configuration of the encoder, and the tokenizer.
        generator: Source of the initial weights, but not of a codebook, which `fit_patch_tokenizer` makes; without it
            they are there for a checkpoint to replace.
    """

    def __init__(
        self,
        spec: ModelSpec,
        architecture: BEiTArchitecture,
        generator: torch.Generator | None = None,
    ) -> None:
        from transformers import BeitConfig, BeitForMaskedImageModeling

        super().__init__()
        check_paired(spec.tokens)
        self.spec = spec
        self.architecture: BEiTArchitecture = architecture
        of_tokenizer = {"vocab_size": architecture.tokenizer.vocabulary, "use_mask_token": True}
        config = BeitConfig(**configuration(spec, architecture.config) | of_tokenizer)
        with weights_from(generator):
            self.model = BeitForMaskedImageModeling(config)
        if not architecture.mask_token:
            self.model.beit.embeddings.mask_token = None
        if architecture.decoder:
            self.tokenizer = make_tokenizer(spec, architecture.tokenizer, generator)
        else:
            del self.model.layernorm, self.model.lm_head

    @property
    def has_decoder(self) -> bool:
        """Whether it can predict tokens, or is an encoder alone."""
        return self.architecture.decoder

    def tokens(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the visible patches: (B, K, visible, D).

        Blockwise masks may leave different numbers of patches visible, which is refused here.
        """
        visible = equal_visible(masks)
        return self.encode(images, masks)[~masks].view(*masks.shape[:2], visible, -1)

    def encode(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the whole grid: (B, K, L, D).

        Raises:
            MimiaError: A patch is masked, and there is no mask token.
        """
        pixels, flat = for_each_mask(self.spec.normalise(images), masks)
        with outside_inference_mode():
            encoded = self.model.beit(pixels, **masked(flat, self.architecture)).last_hidden_state
        patches: Tensor = encoded[:, 1:]
        return patches.reshape(*masks.shape, -1)

    def reconstruct(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict the tokens of all patches, as logits: (B, K, L, V)."""
        pixels, flat = for_each_mask(self.spec.normalise(images), masks)
        with outside_inference_mode():
            logits: Tensor = self.model(pixels, bool_masked_pos=flat).logits
        return logits.view(*masks.shape, -1).float()

    def patch_errors(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Cross-entropy of each patch's token, which the whole image gives: (B, K, L).

        Args:
            predictions: Logits, (B, K, L, V).
            images: Raw pixels.
        """
        target = self.tokenizer(images).unsqueeze(1).expand(predictions.shape[:-1])
        error = F.cross_entropy(predictions.flatten(0, 2), target.flatten(), reduction="none")
        return error.view(predictions.shape[:-1])

    def pictures(self, images: Tensor, masks: Tensor) -> Tensor:
        """Show the likeliest token of each patch as raw pixels, where [0, 1] is what can be shown: (B, K, C, H, W).

        Tokens of DALL-E cannot be shown without its decoder: then masked patches are grey.
        """
        spec = self.spec
        if isinstance(self.tokenizer, PatchTokenizer):
            patches = self.tokenizer.decode(self.reconstruct(images, masks).argmax(dim=-1)).flatten(0, 1)
            pixels = spec.denormalise(unpatchify(patches, spec.patch_size, spec.grid))
        else:
            of_patches = masks.view(-1, 1, *spec.grid)
            hidden = of_patches.repeat_interleave(spec.patch_size, dim=2).repeat_interleave(spec.patch_size, dim=3)
            visible, _ = for_each_mask(spec.denormalise(spec.normalise(images)), masks)
            pixels = torch.where(hidden, _GREY, visible)
        return pixels.view(*masks.shape[:2], *pixels.shape[1:])


def of_decoder(name: str) -> bool:
    """Return whether a parameter belongs to the decoder, or to what gives its targets.

    >>> of_decoder("model.layernorm.bias"), of_decoder("tokenizer.codebook"), of_decoder("model.beit.layernorm.bias")
    (True, True, False)
    """
    return name.startswith(("model.layernorm.", "model.lm_head.", "tokenizer."))


def _architecture_for(recipe: Recipe, _: ModelSpec, tokenizer: TokenizerArchitecture | None) -> BEiTArchitecture:
    assert recipe.vocabulary is not None  # by the recipe's own check
    return beit_architecture(recipe.size, tokenizer or TokenizerArchitecture(vocabulary=recipe.vocabulary))


_SMALL: dict[str, Any] = {
    "mask_ratio": 75 / 196,
    "betas": (0.9, 0.999),
    "gradient_clip": 3.0,
    "vocabulary": 512,
    "epochs": 400,
    "batch_size": 100,
    "base_learning_rate": 4e-3,
}
_IMAGENET: dict[str, Any] = {
    "vocabulary": 8192,
    "epochs": 800,
    "batch_size": 2048,
    "base_learning_rate": 1.875e-4,
    "augmentation": "crop",
}
FAMILY = Family(
    architecture=BEiTArchitecture,
    build=BEiT,
    architecture_for=_architecture_for,
    presets={
        "beit-nano": _SMALL | {"size": "nano", "patch_size": 2, "vocabulary": 64},
        "beit-micro": _SMALL | {"size": "micro", "patch_size": 4},
        "beit-base": _SMALL | _IMAGENET | {"size": "base", "patch_size": 16},
    },
    masking="blockwise",
    target_space="tokens",
    recipe_keys=frozenset({"vocabulary"}),
    decoder=DecoderInterface(
        contains=of_decoder,
        attach=lambda encoder, other: encoder.model_copy(
            update={"decoder": True, "mask_token": True, "tokenizer": other.tokenizer}
        ),
        latents=lambda model, images, masks: model.model.layernorm(model.encode(images, masks)[masks]),
        first_layer=lambda model: model.model.lm_head,
        masked_patch=".embeddings.mask_token",
    ),
)
