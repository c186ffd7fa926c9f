"""A decoder for an encoder that comes without one: fitted to it (D3), for pixels or latents, or a shadow's (D2).

Calibration is fair only if the references' decoders are made as the target's is: from the same images, in the same
order, with the same seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.config.settings import DecoderSettings
from mimia.data.imageset import ImageSet
from mimia.models import mae
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.native import model_id
from mimia.models.mae import MAE
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.trainer import Trainer
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import progress
from mimia.runtime.seeds import derived_seed, torch_generator
from mimia.runtime.store import Store

_BATCH = 256
_DECODER_SIZES = ("decoder_width", "decoder_depth", "decoder_heads")
_RIDGE = 1e-3  # of the mean variance of a latent: keeps the map finite where latents are collinear


def with_decoders(
    checkpoints: Mapping[str, Path],
    donors: Sequence[Path],
    images: ImageSet,
    recipe: Recipe,
    settings: DecoderSettings,
    context: TrainingContext,
) -> dict[str, Path]:
    """Return a checkpoint of each encoder with a decoder that is not its own, all by the same procedure.

    Args:
        checkpoints: Checkpoints by name: the target's, then those of the shadows, then any others.
        donors: The shadows' checkpoints. No other model lends its decoder: those of the online attacks saw images that
            are evaluated.
        images: Neither evaluated nor seen by any encoder.
        recipe: The target's; a fitted decoder has the size of its decoder.
        settings: Where the decoders come from, and how they are fitted.
        context: Device, precision and store.

    Raises:
        MimiaError: A model is not a MAE, or a single shadow would lend its decoder to itself.
    """
    made = {}
    for index, (name, checkpoint) in enumerate(checkpoints.items()):
        if settings.source == "fitted":
            named = replace(context, description=f"decoder: {name}")
            made[name] = fitted_decoder(checkpoint, images, recipe, settings, named)
            continue
        donor = donors[index % len(donors)]  # the target gets the first shadow's, a shadow the next one's
        if donor == checkpoint:
            raise MimiaError("A shadow cannot lend its decoder to itself: raise shadows.count to 2.")
        aligning = images if settings.source == "aligned" else None
        made[name] = borrowed_decoder(checkpoint, donor, context.store, aligning, recipe.seed)
    return made


def with_latent_decoders(
    checkpoints: Mapping[str, Path],
    images: ImageSet,
    recipe: Recipe,
    settings: DecoderSettings,
    context: TrainingContext,
) -> dict[str, Path]:
    """Return a checkpoint of each encoder with a fitted decoder that predicts the encoder's own latents.

    Dataset ownership verification by what is known of hidden patches (DOV4MM, arXiv 2507.12022): the encoder sees some
    patches, and the decoder predicts the encoder's latents of the others when it sees the whole image. In the paper a
    masked patch is blank; here it is left out, as in the training of a MAE.

    Args:
        checkpoints: Checkpoints by name; decoders that they have are not used.
        images: Neither evaluated nor seen by any encoder.
        recipe: The target's; a fitted decoder has the size of its decoder.
        settings: How the decoders are fitted.
        context: Device, precision and store.

    Raises:
        MimiaError: A model is not a MAE.
    """
    return {
        name: fitted_decoder(
            checkpoint,
            images,
            recipe,
            settings,
            replace(context, description=f"latent decoder: {name}"),
            target_space="latents",
        )
        for name, checkpoint in checkpoints.items()
    }


def fitted_decoder(
    checkpoint: Path,
    images: ImageSet,
    recipe: Recipe,
    settings: DecoderSettings,
    context: TrainingContext,
    target_space: Literal["latents"] | None = None,
) -> Path:
    """Return a checkpoint of the frozen encoder with a MAE decoder that was fitted to it (D3).

    Args:
        checkpoint: The encoder, with or without a decoder of its own, which is not used.
        images: Neither evaluated nor seen by any encoder.
        recipe: The rest of the training: size of the decoder, mask ratio, seed, weight decay, augmentation.
        settings: Epochs, batch and learning rate of the fit.
        context: Device, precision and store.
        target_space: What the decoder predicts: the encoder's latents, or pixels in the encoder's target space.

    Raises:
        MimiaError: The model is not a MAE.
    """
    encoder = _mae(checkpoint)
    changed = {"mask_ratio": recipe.mask_ratio, "target_space": target_space or encoder.spec.target_space}
    spec = encoder.spec.model_copy(update=changed)
    changes = settings.model_dump(include={"epochs", "batch_size", "base_learning_rate"})
    recipe = recipe.undefended.model_copy(update=changes)
    key = {
        "how": "fitted",
        "encoder": model_id(checkpoint),
        "spec": spec.model_dump(mode="json"),
        "images": images.fingerprint,
        "recipe": recipe.identity | {"seed": recipe.seed},
        "precision": context.compute.precision,
    }
    context = replace(context, rate_setting="decoder.base_learning_rate")
    return context.store.make("decoders", key, partial(_fit, encoder, spec, images, Trainer(recipe, context)))


def borrowed_decoder(
    checkpoint: Path, donor: Path, store: Store, images: ImageSet | None = None, seed: int = 0
) -> Path:
    """Return a checkpoint of the encoder with the decoder of another model (D2), optionally behind a linear map.

    Args:
        checkpoint: The encoder.
        donor: A shadow, with its decoder.
        store: Where the new checkpoint is kept.
        images: If given, the latents are aligned on them: `linear_map` is multiplied into the decoder's first layer.
        seed: Seed of the masks for the alignment.

    Raises:
        MimiaError: A model is not a MAE, or latents are not finite.
    """
    encoder, donor_model = _mae(checkpoint), _mae(donor)
    key = {
        "how": "borrowed",
        "encoder": model_id(checkpoint),
        "donor": model_id(donor),
        "aligned on": None if images is None else [images.fingerprint, seed],
    }

    def build(work: Path) -> None:
        joined = _joined(encoder, donor_model)
        if images is not None:
            weight, bias = linear_map(encoder, donor_model, images, seed)
            with torch.no_grad():
                first = joined.decoder_embed
                first.bias.add_(first.weight @ bias)
                first.weight.copy_(first.weight @ weight)
        native.save(work, joined)

    return store.make("decoders", key, build)


def linear_map(source: MAE, to: MAE, images: ImageSet, seed: int) -> tuple[Tensor, Tensor]:
    """Fit W and b so that W·z + b is near the other model's latent of the same patches, by ridge regression.

    Returns:
        W, (D of ``to``, D of ``source``), and b, (D of ``to``).

    Raises:
        MimiaError: Latents are not finite.
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
    if gram.isfinite().all() and product.isfinite().all():
        solution = torch.linalg.solve(gram + ridge, product).float()
        if solution.isfinite().all():
            return solution[:-1].T, solution[-1]
    raise MimiaError(
        "The latents of two encoders cannot be aligned, as those of one are not finite: set decoder.source (--decoder) "
        "to fitted."
    )


def _fit(encoder: MAE, spec: ModelSpec, images: ImageSet, trainer: Trainer, work: Path) -> None:
    recipe = trainer.recipe
    decoder = mae.SIZES[recipe.size]
    sizes = {name: getattr(decoder, name) for name in _DECODER_SIZES}
    seed = derived_seed(recipe.seed, "decoder")
    model = MAE(spec, encoder.architecture.model_copy(update=sizes), torch_generator("cpu", seed, "weights"))
    weights = _encoder_weights(encoder)
    model.load_state_dict(model.state_dict() | weights)
    for name, value in model.named_parameters():
        if name in weights:
            value.requires_grad_(False)
    trainer.fit_and_save(model, images, seed, work)


def _mae(checkpoint: Path) -> MAE:
    model = native.load(checkpoint)
    if not isinstance(model, MAE):
        raise MimiaError(f"{checkpoint} is not a MAE: a decoder can only be fitted to the encoder of one.")
    return model


def _joined(encoder: MAE, donor: MAE) -> MAE:
    """Put one model's encoder before another's decoder."""
    sizes = {name: getattr(donor.architecture, name) for name in _DECODER_SIZES}
    with torch.device("meta"):
        joined = MAE(encoder.spec, encoder.architecture.model_copy(update=sizes))
    weights = {name: value.clone() for name, value in donor.state_dict().items() if mae.of_decoder(name)}
    joined.load_state_dict(_encoder_weights(encoder) | weights, assign=True)
    return joined


def _encoder_weights(model: MAE) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if not mae.of_decoder(name)}
