"""A decoder for an encoder that comes without one: fitted to it (D3), of pixels or of latents, or a shadow's (D2).

Calibration compares like with like only if the references' decoders came about as the target's did: from the same
images, in the same order, with the same seeds.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mimia.config import ComputeSettings, DecoderSettings
from mimia.encoders import mae
from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.native import model_id
from mimia.encoders.mae import Mae
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.pretraining.loop import train_and_save
from mimia.progress import progress
from mimia.recipes import Recipe
from mimia.seeds import derived_seed, torch_generator
from mimia.store import Store

_BATCH = 256
_RIDGE = 1e-3  # of the mean variance of a latent: keeps the map finite where latents are collinear


def with_decoders(
    encoders: Mapping[str, Path],
    lenders: Sequence[Path],
    images: ImageSet,
    recipe: Recipe,
    settings: DecoderSettings,
    compute: ComputeSettings,
    store: Store,
) -> dict[str, Path]:
    """Give a checkpoint of each encoder with a decoder that is not its own, all by the same procedure.

    Args:
        encoders: By name, the target's, then those of the shadows, then any others.
        lenders: The shadows' checkpoints. No other model lends its decoder: those of the online attacks saw images that
            are judged.
        images: Neither to be judged, nor seen by any encoder.
        recipe: The target's; the size of its decoder is that of a fitted one.
        settings: Where the decoders come from, and how they are fitted.
        compute: Device and precision.
        store: Where the new checkpoints are kept.

    Raises:
        MimiaError: A model is no MAE, or a single shadow shall lend its decoder to itself.
    """
    made = {}
    for index, (name, checkpoint) in enumerate(encoders.items()):
        encoder = _mae(checkpoint)
        if settings.source == "fitted":
            path = fitted_decoder(encoder, model_id(checkpoint), images, recipe, settings, compute, store, name)
        else:
            lender = lenders[index % len(lenders)]  # the target gets the first shadow's, a shadow the next one's
            if lender == checkpoint:
                raise MimiaError("A shadow cannot lend its decoder to itself: raise shadows.count to 2.")
            aligning = images if settings.source == "aligned" else None
            path = borrowed_decoder(
                encoder, model_id(checkpoint), _mae(lender), model_id(lender), store, aligning, recipe.seed
            )
        made[name] = path
    return made


def with_latent_decoders(
    encoders: Mapping[str, Path],
    images: ImageSet,
    recipe: Recipe,
    settings: DecoderSettings,
    compute: ComputeSettings,
    store: Store,
) -> dict[str, Path]:
    """Give a checkpoint of each encoder with a fitted decoder that predicts the encoder's own latents.

    Dataset ownership verification by what is known of hidden patches (DOV4MM, arXiv 2507.12022): the encoder sees some
    patches, and the decoder predicts what the encoder makes of the others when it sees the whole image. There a masked
    patch is blank; here it is left out, as in the training of a MAE.

    Args:
        encoders: By name; a decoder that they have is not used.
        images: Neither to be judged, nor seen by any encoder.
        recipe: The target's; the size of its decoder is that of a fitted one.
        settings: How the decoders are fitted.
        compute: Device and precision.
        store: Where the new checkpoints are kept.

    Raises:
        MimiaError: A model is no MAE.
    """
    return {
        name: fitted_decoder(
            _mae(checkpoint), model_id(checkpoint), images, recipe, settings, compute, store, name, latents=True
        )
        for name, checkpoint in encoders.items()
    }


def fitted_decoder(
    encoder: Mae,
    encoder_id: str,
    images: ImageSet,
    recipe: Recipe,
    settings: DecoderSettings,
    compute: ComputeSettings,
    store: Store,
    name: str,
    *,
    latents: bool = False,
) -> Path:
    """Give a checkpoint of the frozen encoder with a MAE decoder that was fitted to it (D3).

    Args:
        encoder: With or without a decoder of its own, which is not used.
        encoder_id: Name of its weights.
        images: Neither to be judged, nor seen by any encoder.
        recipe: The rest of the training: size of the decoder, mask ratio, seed, weight decay, augmentation.
        settings: Epochs, batch and learning rate of the fit.
        compute: Device and precision.
        store: Where the checkpoint is kept.
        name: What the progress bar calls the encoder.
        latents: Whether the decoder predicts the encoder's latents, and not pixels.
    """
    changed = {"mask_ratio": recipe.mask_ratio} | ({"target_space": "latents"} if latents else {})
    spec = encoder.spec.model_copy(update=changed)
    changes = settings.model_dump(include={"epochs", "batch_size", "base_learning_rate"})
    recipe = recipe.model_copy(update={**changes, "stop_epoch": None, "dp_epsilon": None})
    key = {
        "how": "fitted",
        "encoder": encoder_id,
        "spec": spec.model_dump(mode="json"),
        "images": images.fingerprint,
        "recipe": recipe.identity | {"seed": recipe.seed},
        "precision": compute.precision,
    }
    what = "latent decoder" if latents else "decoder"
    return store.make("decoders", key, partial(_fit, encoder, spec, images, recipe, compute, f"{what}: {name}"))


def borrowed_decoder(
    encoder: Mae,
    encoder_id: str,
    lender: Mae,
    lender_id: str,
    store: Store,
    images: ImageSet | None = None,
    seed: int = 0,
) -> Path:
    """Give a checkpoint of the encoder with the decoder of another model (D2), if wanted behind a linear map.

    Args:
        encoder: Whose images are in question.
        encoder_id: Name of its weights.
        lender: A shadow, with its decoder.
        lender_id: Name of its weights.
        store: Where the checkpoint is kept.
        images: If given, the latents are aligned on them: `linear_map` is multiplied into the decoder's first layer.
        seed: Seed of the masks for the alignment.
    """
    key = {
        "how": "borrowed",
        "encoder": encoder_id,
        "lender": lender_id,
        "aligned on": None if images is None else [images.fingerprint, seed],
    }

    def build(work: Path) -> None:
        joined = _joined(encoder, lender)
        if images is not None:
            weight, bias = linear_map(encoder, lender, images, seed)
            with torch.no_grad():
                first = joined.decoder_embed
                first.bias.add_(first.weight @ bias)
                first.weight.copy_(first.weight @ weight)
        native.save(work, joined)

    return store.make("decoders", key, build)


def linear_map(source: Mae, to: Mae, images: ImageSet, seed: int) -> tuple[Tensor, Tensor]:
    """Fit W and b so that W·z + b is near the other model's latent of the same patches, by ridge regression.

    Returns:
        W, (D of ``to``, D of ``source``), and b, (D of ``to``).
    """
    width, other = source.architecture.width, to.architecture.width
    gram = torch.zeros(width + 1, width + 1, dtype=torch.float64)
    product = torch.zeros(width + 1, other, dtype=torch.float64)
    with torch.inference_mode(), progress("aligning latents", len(images)) as advance:
        for start in range(0, len(images), _BATCH):
            chunk = slice(start, start + _BATCH)
            pixels = torch.from_numpy(images.pixels[chunk])
            masks = torch.from_numpy(source.spec.scoring_masks(images.ids[chunk], 1, seed))
            latents = source.encode(pixels, masks).flatten(0, 2).double()
            latents = torch.cat([latents, torch.ones(len(latents), 1)], dim=1)
            gram += latents.T @ latents
            product += latents.T @ to.encode(pixels, masks).flatten(0, 2).double()
            advance(len(pixels))
    ridge = torch.eye(width + 1, dtype=torch.float64) * _RIDGE * gram.diagonal().mean()
    ridge[-1, -1] = 0
    solution = torch.linalg.solve(gram + ridge, product).float()
    return solution[:-1].T, solution[-1]


def _fit(
    encoder: Mae,
    spec: ModelSpec,
    images: ImageSet,
    recipe: Recipe,
    compute: ComputeSettings,
    description: str,
    work: Path,
) -> None:
    decoder = mae.SIZES[recipe.size]
    sizes = {name: getattr(decoder, name) for name in ("decoder_width", "decoder_depth", "decoder_heads")}
    seed = derived_seed(recipe.seed, "decoder")
    model = Mae(spec, encoder.architecture.model_copy(update=sizes), torch_generator("cpu", seed, "weights"))
    weights = _encoder_weights(encoder)
    model.load_state_dict(model.state_dict() | weights)
    for name, value in model.named_parameters():
        if name in weights:
            value.requires_grad_(False)
    train_and_save(model, images, recipe, seed, compute, work, description)


def _mae(checkpoint: Path) -> Mae:
    model = native.load(checkpoint)
    if not isinstance(model, Mae):
        raise MimiaError(f"{checkpoint} is no MAE: a decoder can only be fitted to the encoder of one.")
    return model


def _joined(encoder: Mae, lender: Mae) -> Mae:
    """Put one model's encoder before another's decoder."""
    names = ("decoder_width", "decoder_depth", "decoder_heads")
    sizes = {name: getattr(lender.architecture, name) for name in names}
    with torch.device("meta"):
        joined = Mae(encoder.spec, encoder.architecture.model_copy(update=sizes))
    weights = {name: value.clone() for name, value in lender.state_dict().items() if mae.of_decoder(name)}
    joined.load_state_dict(_encoder_weights(encoder) | weights, assign=True)
    return joined


def _encoder_weights(model: Mae) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not mae.of_decoder(name)}
