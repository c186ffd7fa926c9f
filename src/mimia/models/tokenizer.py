"""Discrete visual tokens: what BEiT predicts of a patch instead of its pixels (Bao et al., arXiv 2106.08254)."""

import hashlib
import math
from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.models.base import MaskedImageModel, ModelSpec
from mimia.models.huggingface import weights_from
from mimia.models.patches import patchify
from mimia.models.sizes import CheckedConfig
from mimia.runtime.arrays import Pixels

_MOST_PATCHES = 100_000  # that a codebook is made from
_PAIRS = 2**24  # of patch and entry, whose distances are held in memory at once
_DALLE_PATCH = 8  # pixels along one side that DALL-E's encoder makes one token of
_DALLE_EPS = 0.1  # DALL-E wants pixels in [0.1, 0.9]


class TokenizerArchitecture(BaseModel):
    """Which tokenizer it is.

    Attributes:
        kind: ``patches``: a codebook that was made here; ``dalle``: DALL-E's encoder.
        vocabulary: Number of different tokens, V.
        config: Settings of transformers' ``FlavaImageCodebookConfig`` (``dalle`` only).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["patches", "dalle"] = "patches"
    vocabulary: PositiveInt = Field(le=1_000_000)
    config: CheckedConfig = {}


class Tokenizer(nn.Module):
    """Gives one token for each patch; it is not trained with the model that predicts them."""

    spec: ModelSpec
    architecture: TokenizerArchitecture

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of whole images: raw pixels, (B, C, H, W), uint8 or float in [0, 1] -> int64, (B, L)."""

    @property
    def fingerprint(self) -> str:
        """Name of its weights: models can be compared if they predict tokens of the same name."""
        digest = hashlib.sha256()
        for name, value in self.state_dict().items():
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.cpu().contiguous().numpy().data)
        return digest.hexdigest()


class TokenModel(MaskedImageModel):
    """A model that predicts visual tokens; if it has its decoder, it has its tokenizer too."""

    tokenizer: Tokenizer


class PatchTokenizer(Tokenizer):
    """A codebook of patches; the token of a patch is the nearest entry.

    Args:
        spec: Images and their pixel statistics.
        architecture: Size of the codebook, (V, p*p*C), in data-set-normalised pixels; it is there to be filled.
    """

    codebook: Tensor

    def __init__(self, spec: ModelSpec, architecture: TokenizerArchitecture) -> None:
        super().__init__()
        self.spec = spec
        self.architecture = architecture
        self.register_buffer("codebook", torch.zeros(architecture.vocabulary, spec.patch_size**2 * spec.channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return the nearest entry of each patch, of equally near ones the first."""
        patches = patchify(self.spec.normalise(images), self.spec.patch_size)
        # Differences are squared one by one: a matrix product would round otherwise in another batch, and tokens of
        # patches between two entries would flip.
        nearest = [
            torch.cdist(chunk, self.codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=-1)
            for chunk in torch.split(patches.flatten(0, 1), max(1, _PAIRS // len(self.codebook)))
        ]
        return torch.cat(nearest).view(patches.shape[:2])

    def decode(self, tokens: Tensor) -> Tensor:
        """Return the patches that tokens stand for: any shape -> (..., p*p*C), data-set-normalised pixels."""
        return self.codebook[tokens]


class DalleTokenizer(Tokenizer):
    """DALL-E's image encoder (Ramesh et al., arXiv 2102.12092), as transformers has it for FLAVA.

    It makes one token of 8 × 8 pixels, so that images are resized to 8 pixels for each patch. What it was trained to
    decode tokens by is not there.

    Args:
        spec: Images.
        architecture: Vocabulary and configuration.
        generator: Source of the initial weights; without it they are there for a checkpoint to replace.
    """

    def __init__(
        self, spec: ModelSpec, architecture: TokenizerArchitecture, generator: torch.Generator | None = None
    ) -> None:
        from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

        super().__init__()
        self.spec = spec
        self.architecture = architecture
        settings: dict[str, Any] = architecture.config | {"vocab_size": architecture.vocabulary}
        with weights_from(generator):
            self.codebook = FlavaImageCodebook(FlavaImageCodebookConfig(**settings)).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the likeliest token of each patch."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        size = [_DALLE_PATCH * side for side in self.spec.grid]
        pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        pixels = (1 - 2 * _DALLE_EPS) * pixels.expand(-1, 3, -1, -1) + _DALLE_EPS
        with torch.autocast(pixels.device.type, enabled=False):  # tokens are the same in any precision of the model
            logits: Tensor = self.codebook(pixels)
        return logits.argmax(dim=1).flatten(1)


def make_tokenizer(
    spec: ModelSpec, architecture: TokenizerArchitecture, generator: torch.Generator | None = None
) -> Tokenizer:
    """Return a tokenizer, whose weights are there for a checkpoint or `fit_patch_tokenizer` to fill."""
    if architecture.kind == "dalle":
        return DalleTokenizer(spec, architecture, generator)
    return PatchTokenizer(spec, architecture)


def fit_patch_tokenizer(images: Pixels, spec: ModelSpec, vocabulary: int, seed: int) -> PatchTokenizer:
    """Return a codebook of the patches of images by k-means.

    Args:
        images: uint8, (N, C, H, W); a bounded number of them is looked at.
        spec: Patch size and pixel statistics.
        vocabulary: Number of entries. Where there are fewer different patches, the rest of the entries is repeated, and
            never the token of a patch.
        seed: Seed of the choice and of k-means.
    """
    from sklearn.cluster import MiniBatchKMeans

    tokenizer = PatchTokenizer(spec, TokenizerArchitecture(vocabulary=vocabulary))
    generator = np.random.default_rng(seed)
    wanted = min(len(images), math.ceil(_MOST_PATCHES / spec.tokens))
    rows = np.sort(generator.choice(len(images), wanted, replace=False))
    pixels = spec.normalise(torch.from_numpy(images[rows]))
    patches = patchify(pixels, spec.patch_size).flatten(0, 1).numpy()
    patches, counts = np.unique(patches, axis=0, return_counts=True)
    if len(patches) > vocabulary:
        # Starting from different patches, no two clusters are the same.
        clusters = MiniBatchKMeans(
            vocabulary, init="random", n_init=1, batch_size=max(1024, vocabulary), random_state=seed % 2**32
        )
        patches = clusters.fit(patches, sample_weight=counts).cluster_centers_
    tokenizer.codebook.copy_(torch.from_numpy(np.resize(patches, tokenizer.codebook.shape)))
    return tokenizer
