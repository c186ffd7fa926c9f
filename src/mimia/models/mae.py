"""Masked autoencoder with a ViT (He et al., arXiv 2111.06377), parameter names of the official code."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from mimia.config.recipes import SizeName
from mimia.models.base import Architecture, MaskedImageModel, ModelSpec
from mimia.models.family import DecoderInterface, Family
from mimia.models.patches import equal_visible, patch_statistics, patchify
from mimia.models.sizes import Depth, Epsilon, Width, check_heads
from mimia.models.vit import LAYER_NORM_EPS, Block, PatchEmbed, sincos_positions


class MAEArchitecture(Architecture):
    """Width, depth and heads of an encoder and its decoder; an encoder alone has a decoder of width 0.

    Attributes:
        norm_eps: What layer normalisation adds to the variance: 1e-6 in the official code, and often 1e-12 in files of
            transformers.
        class_token: Whether a class token stands before the patches.
        class_position: Whether that has a row of its own among the positions; without a class token there is none.
        registers: Number of register tokens between class token and patches (Darcet et al., arXiv 2309.16588).
        layer_scale: Whether residuals are scaled channel by channel.
    """

    later: ClassVar[frozenset[str]] = frozenset({"class_token", "class_position", "registers", "layer_scale"})

    family: Literal["mae"] = "mae"
    width: Width
    depth: Depth
    heads: PositiveInt
    decoder_width: Width = 0
    decoder_depth: Depth = 0
    decoder_heads: NonNegativeInt = 0
    norm_eps: Epsilon = LAYER_NORM_EPS
    class_token: bool = True
    class_position: bool = True
    registers: int = Field(0, ge=0, le=64)
    layer_scale: bool = False

    @model_validator(mode="after")
    def _divisible(self) -> "MAEArchitecture":
        check_heads(self.width, self.heads)
        if self.decoder_width:
            check_heads(self.decoder_width, self.decoder_heads)
        return self

    @property
    def prefix(self) -> int:
        """Number of tokens before the patches."""
        return self.class_token + self.registers

    @property
    def has_class_position(self) -> bool:
        """Whether the first row of the positions is that of a class token."""
        return self.class_token and self.class_position


def _architecture(encoder: tuple[int, int, int], decoder: tuple[int, int, int]) -> MAEArchitecture:
    width, depth, heads = encoder
    decoder_width, decoder_depth, decoder_heads = decoder
    return MAEArchitecture(
        width=width,
        depth=depth,
        heads=heads,
        decoder_width=decoder_width,
        decoder_depth=decoder_depth,
        decoder_heads=decoder_heads,
    )


SIZES: dict[SizeName, MAEArchitecture] = {  # width, depth and heads of encoder and decoder
    "nano": _architecture((64, 3, 4), (32, 1, 4)),  # for digits of 8 pixels
    "micro": _architecture((128, 4, 4), (64, 1, 4)),  # for images of 32 pixels on a CPU
    "tiny": _architecture((192, 12, 3), (192, 4, 3)),
    "small": _architecture((384, 12, 6), (256, 4, 8)),
    "base": _architecture((768, 12, 12), (512, 8, 16)),  # from here on as in the paper
    "large": _architecture((1024, 24, 16), (512, 8, 16)),
    "huge": _architecture((1280, 32, 16), (512, 8, 16)),
}


class MAE(MaskedImageModel):
    """A masked autoencoder.

    Args:
        spec: Images, masking and target space.
        architecture: Sizes of encoder and decoder.
        generator: Source of the initial weights; without it they are left for a checkpoint to fill.
    """

    def __init__(
        self,
        spec: ModelSpec,
        architecture: MAEArchitecture,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.architecture: MAEArchitecture = architecture
        width, decoder_width, eps = architecture.width, architecture.decoder_width, architecture.norm_eps
        self.patch_embed = PatchEmbed(spec.patch_size, spec.channels, width)
        if architecture.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if architecture.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, architecture.registers, width))
        self.pos_embed = self._positions(width)
        scaled = architecture.layer_scale
        self.blocks = nn.ModuleList(
            Block(width, architecture.heads, eps, layer_scale=scaled) for _ in range(architecture.depth)
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        if self.has_decoder:
            self.decoder_embed = nn.Linear(width, decoder_width)
            self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
            self.decoder_pos_embed = self._positions(decoder_width)
            self.decoder_blocks = nn.ModuleList(
                Block(decoder_width, architecture.decoder_heads, eps, layer_scale=scaled)
                for _ in range(architecture.decoder_depth)
            )
            self.decoder_norm = nn.LayerNorm(decoder_width, eps=eps)
            predicted = width if spec.target_space == "latents" else spec.patch_size**2 * spec.channels
            self.decoder_pred = nn.Linear(decoder_width, predicted)
        if generator is not None:
            self._initialise(generator)

    def _positions(self, width: int) -> nn.Parameter:
        first = 0 if self.architecture.has_class_position else 1
        return nn.Parameter(sincos_positions(width, self.spec.grid)[:, first:], requires_grad=False)

    def _initialise(self, generator: torch.Generator) -> None:
        """Xavier-uniform matrices (the patch embedding as one), zero biases, normal(.02) tokens."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                matrix = module.weight.view(module.weight.shape[0], -1)
                nn.init.xavier_uniform_(matrix, generator=generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if self.architecture.class_token:
            nn.init.normal_(self.cls_token, std=0.02, generator=generator)
        if self.architecture.registers:
            nn.init.normal_(self.reg_token, std=0.02, generator=generator)
        if self.has_decoder:
            nn.init.normal_(self.mask_token, std=0.02, generator=generator)

    @property
    def has_decoder(self) -> bool:
        """Whether it can reconstruct, or is an encoder alone."""
        return self.architecture.decoder_width > 0

    def loss(self, images: Tensor, masks: Tensor) -> Tensor:
        """Training loss: the mean of the per-image distances; a scalar.

        The masks must have the number of visible patches of `spec`; it is not checked here, because that would
        make a training step wait for the device.
        """
        prediction = self._reconstruct(self.spec.normalise(images), masks, self.spec.visible)
        return self.errors(prediction, images, masks).mean()

    def encode(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the tokens before the patches and the visible patches: (B, K, prefix + visible, D)."""
        encoded, _ = self._encode(self.spec.normalise(images), masks, equal_visible(masks))
        return encoded.view(*masks.shape[:2], *encoded.shape[1:])

    def tokens(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the visible patches: (B, K, visible, D), without the tokens before them."""
        return self.encode(images, masks)[:, :, self.architecture.prefix :]

    def reconstruct(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict all patches in the model's target space: (B, K, L, p*p*C), or (B, K, L, D) of latents."""
        return self._reconstruct(self.spec.normalise(images), masks, equal_visible(masks))

    def patch_errors(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Mean squared error of each patch, in the model's target space: (B, K, L)."""
        return (predictions - self.target(images).unsqueeze(1)).square().mean(dim=-1)

    def target(self, images: Tensor) -> Tensor:
        """Return what the model is trained to predict, in its target space: (B, L, p*p*C), or (B, L, D) of latents."""
        if self.spec.target_space == "latents":
            with torch.no_grad():
                whole = torch.zeros(len(images), 1, self.spec.tokens, dtype=torch.bool, device=images.device)
                return self.tokens(images, whole)[:, 0].float()
        patches = patchify(self.spec.normalise(images), self.spec.patch_size)
        if self.spec.target_space == "patch-normalised":
            mean, spread = patch_statistics(patches)
            patches = (patches - mean) / spread
        return patches

    def _reconstruct(self, pixels: Tensor, masks: Tensor, visible: int) -> Tensor:
        encoded, restore = self._encode(pixels, masks, visible)
        encoded = self.decoder_embed(encoded)
        hidden = self.mask_token.expand(len(encoded), masks.shape[-1] - visible, -1)
        hidden = hidden.to(encoded.dtype)
        prefix = self.architecture.prefix
        patches = torch.cat([encoded[:, prefix:], hidden], dim=1)
        patches = patches.gather(1, restore.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
        x = self._with_positions(encoded[:, :prefix], patches, self.decoder_pos_embed)
        for block in self.decoder_blocks:
            x = block(x)
        prediction: Tensor = self.decoder_pred(self.decoder_norm(x))[:, prefix:]
        return prediction.reshape(*masks.shape, -1).float()

    def _encode(self, pixels: Tensor, masks: Tensor, visible: int) -> tuple[Tensor, Tensor]:
        """Encode the tokens before the patches and the visible patches, and say how to put patches back in order.

        Returns:
            Tokens, (B*K, prefix + visible, D), and the place of each patch among visible-then-masked, (B*K, L).
        """
        patches: Tensor = self.patch_embed(pixels) + self.pos_embed[:, -masks.shape[-1] :]
        order = masks.flatten(0, 1).to(torch.uint8).argsort(dim=-1, stable=True)
        kept = order[:, :visible].reshape(len(patches), -1)  # (B, K*visible)
        x = patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))
        x = x.view(-1, visible, x.shape[-1])
        x = torch.cat([*(token.to(x.dtype).expand(len(x), -1, -1) for token in self._prefix()), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x), order.argsort(dim=-1)

    def _prefix(self) -> Iterator[Tensor]:
        """Yield the tokens before the patches, with the position of the class token if it has one."""
        architecture = self.architecture
        if architecture.class_token:
            yield self.cls_token + self.pos_embed[:, :1] if architecture.has_class_position else self.cls_token
        if architecture.registers:
            yield self.reg_token

    def _with_positions(self, prefix: Tensor, patches: Tensor, positions: Tensor) -> Tensor:
        """Join tokens, and add the positions to those that have one."""
        rows = patches.shape[1]
        first = prefix[:, :1] + positions[:, :1] if self.architecture.has_class_position else prefix[:, :1]
        return torch.cat([first, prefix[:, 1:], patches + positions[:, -rows:]], dim=1)


def of_decoder(name: str) -> bool:
    """Return whether a parameter belongs to the decoder.

    >>> of_decoder("decoder_pred.bias"), of_decoder("mask_token"), of_decoder("cls_token")
    (True, True, False)
    """
    return name.startswith("decoder_") or name == "mask_token"


def _with_decoder_of(encoder: MAEArchitecture, other: MAEArchitecture) -> MAEArchitecture:
    sizes = ("decoder_width", "decoder_depth", "decoder_heads")
    return encoder.model_copy(update={name: getattr(other, name) for name in sizes})


_IMAGENET: dict[str, Any] = {
    "patch_size": 16,
    "epochs": 800,
    "batch_size": 4096,
    "base_learning_rate": 1.5e-4,
    "augmentation": "crop",
}
FAMILY = Family(
    architecture=MAEArchitecture,
    build=MAE,
    architecture_for=lambda recipe, *_: SIZES[recipe.size],
    presets={
        "mae-nano": {"size": "nano", "patch_size": 2, "epochs": 900, "batch_size": 100, "base_learning_rate": 8e-3},
        "mae-micro": {"size": "micro", "patch_size": 4, "epochs": 720, "batch_size": 100, "base_learning_rate": 8e-3},
        "mae-tiny": {
            "size": "tiny",
            "patch_size": 4,
            "epochs": 800,
            "batch_size": 256,
            "base_learning_rate": 1.5e-3,
            "augmentation": "crop",
        },
        "mae-small": _IMAGENET | {"size": "small"},
        "mae-base": _IMAGENET | {"size": "base"},
        "mae-large": _IMAGENET | {"size": "large"},
        "mae-huge": _IMAGENET | {"size": "huge", "patch_size": 14},
    },
    masking="random",
    target_space="normalised",
    recipe_keys=frozenset({"patch_normalised"}),
    on_meta=True,
    exported_layout="transformers-mae",
    decoder=DecoderInterface(
        contains=of_decoder,
        attach=_with_decoder_of,
        latents=lambda model, images, masks: model.encode(images, masks).flatten(0, 2),
        first_layer=lambda model: model.decoder_embed,
        predicts_latents=True,
    ),
)
