"""A decoder for an encoder that comes without one: fitted to it (D3), for pixels or latents, or a shadow's (D2).

Calibration is fair only if the references' decoders are made as the target's is: from the same images, in the same
order, with the same seeds. What a decoder is, each family declares (`DecoderInterface`). Where the target's encoder has
no mask token, the token belongs to the decoder, and no other encoder keeps its own either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from mimia.config.recipes import Recipe
from mimia.config.settings import DecoderSettings
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel, ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.native import model_id
from mimia.models.registry import architecture_for, build, decoder_interface
from mimia.models.tokenizer import TokenModel, fit_patch_tokenizer
from mimia.pretraining.alignment import fold, linear_map
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.trainer import Trainer
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import derived_seed, torch_generator
from mimia.runtime.store import Store


@dataclass(frozen=True)
class FittedParts:
    """What is fitted to a frozen encoder.

    Attributes:
        target_space: What the decoder predicts: the encoder's latents; None: what the encoder was trained to predict.
            Tokens are those of a codebook that is made of the images that the decoder is fitted on.
        mask_token: Whether the encoder's mask token is fitted too, in the place of its own if it has one.
    """

    target_space: Literal["latents"] | None = None
    mask_token: bool = False


_USUAL = FittedParts()


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
        MimiaError: The family of a model declares no decoder, or a single shadow would lend its decoder to itself.
    """
    made = {}
    target = next(iter(checkpoints.values()))
    mask_token = _lacks_mask_token(native.load(target))
    for index, (name, checkpoint) in enumerate(checkpoints.items()):
        if settings.source == "fitted":
            named = replace(context, description=f"decoder: {name}")
            parts = FittedParts(mask_token=mask_token)
            made[name] = fitted_decoder(checkpoint, images, recipe, settings, named, parts)
            continue
        donor = donors[index % len(donors)]  # the target gets the first shadow's, a shadow the next one's
        if donor == checkpoint:
            raise MimiaError("A shadow cannot lend its decoder to itself: raise shadows.count to 2.")
        aligning = images if settings.source == "aligned" else None
        made[name] = borrowed_decoder(checkpoint, donor, context.store, aligning, recipe.seed, mask_token=mask_token)
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
        MimiaError: The family of a model has no such decoder.
    """
    return {
        name: fitted_decoder(
            checkpoint,
            images,
            recipe,
            settings,
            replace(context, description=f"latent decoder: {name}"),
            FittedParts(target_space="latents"),
        )
        for name, checkpoint in checkpoints.items()
    }


def fitted_decoder(
    checkpoint: Path,
    images: ImageSet,
    recipe: Recipe,
    settings: DecoderSettings,
    context: TrainingContext,
    parts: FittedParts = _USUAL,
) -> Path:
    """Return a checkpoint of the frozen encoder with a decoder that was fitted to it (D3).

    Args:
        checkpoint: The encoder, with or without a decoder of its own, which is not used.
        images: Neither evaluated nor seen by any encoder.
        recipe: The rest of the training: size of the decoder, mask ratio, seed, weight decay, augmentation.
        settings: Epochs, batch and learning rate of the fit.
        context: Device, precision and store.
        parts: What is fitted; a mask token that the encoder lacks always is.

    Raises:
        MimiaError: The model's family declares no such decoder.
    """
    encoder = native.load(checkpoint)
    interface = decoder_interface(encoder)
    if parts.target_space == "latents" and not interface.predicts_latents:
        raise MimiaError(f"A {encoder.architecture.family} has no decoder of latents: leave out the attacks on them.")
    parts = replace(parts, mask_token=parts.mask_token or _lacks_mask_token(encoder))
    changed = {"mask_ratio": recipe.mask_ratio, "target_space": parts.target_space or encoder.spec.target_space}
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
    } | ({"mask token": "fitted"} if parts.mask_token else {})
    context = replace(context, rate_setting="decoder.base_learning_rate")
    return context.store.make("decoders", key, partial(_fit, encoder, spec, parts, images, Trainer(recipe, context)))


def borrowed_decoder(
    checkpoint: Path,
    donor: Path,
    store: Store,
    images: ImageSet | None = None,
    seed: int = 0,
    *,
    mask_token: bool = False,
) -> Path:
    """Return a checkpoint of the encoder with the decoder of another model (D2), optionally behind a linear map.

    Args:
        checkpoint: The encoder.
        donor: A shadow, with its decoder.
        store: Where the new checkpoint is kept.
        images: If given, the latents are aligned on them: `linear_map` is multiplied into the decoder's first layer.
        seed: Seed of the masks for the alignment.
        mask_token: Whether the donor's mask token replaces the encoder's own; one that the encoder lacks always is
            the donor's.

    Raises:
        MimiaError: The encoder's family declares no decoder, or latents are not finite.
    """
    encoder, donor_model = native.load(checkpoint), native.load(donor)
    mask_token = mask_token or _lacks_mask_token(encoder)
    key = {
        "how": "borrowed",
        "encoder": model_id(checkpoint),
        "donor": model_id(donor),
        "aligned on": None if images is None else [images.fingerprint, seed],
    } | ({"mask token": "donor's"} if mask_token else {})

    def build(work: Path) -> None:
        joined = _joined(encoder, donor_model, mask_token=mask_token)
        if images is not None:
            weight, bias = linear_map(joined, donor_model, images, seed)
            fold(decoder_interface(joined).first_layer(joined), weight, bias)
        native.save(work, joined)

    return store.make("decoders", key, build)


def _fit(
    encoder: MaskedImageModel, spec: ModelSpec, parts: FittedParts, images: ImageSet, trainer: Trainer, work: Path
) -> None:
    recipe = trainer.recipe
    architecture = decoder_interface(encoder).attach(encoder.architecture, architecture_for(recipe, spec))
    seed = derived_seed(recipe.seed, "decoder")
    model = build(spec, architecture, torch_generator("cpu", seed, "weights"))
    weights = _encoder_weights(encoder, mask_token=not parts.mask_token)
    model.load_state_dict(model.state_dict() | weights)
    if isinstance(model, TokenModel):
        vocabulary = model.tokenizer.architecture.vocabulary
        model.tokenizer = fit_patch_tokenizer(images.pixels, spec, vocabulary, derived_seed(seed, "tokenizer"))
    for name, value in model.named_parameters():
        if name in weights:
            value.requires_grad_(False)
    trainer.fit_and_save(model, images, seed, work)


def _joined(encoder: MaskedImageModel, donor: MaskedImageModel, *, mask_token: bool) -> MaskedImageModel:
    """Put one model's encoder before another's decoder."""
    interface = decoder_interface(encoder)
    kept = _encoder_weights(encoder, mask_token=not mask_token)
    lent = {
        name: value.clone()
        for name, value in donor.state_dict().items()
        if interface.contains(name) or (mask_token and interface.is_mask_token(name))
    }
    joined = build(encoder.spec, interface.attach(encoder.architecture, donor.architecture))
    joined.load_state_dict(kept | lent, assign=True)
    return joined.eval()


def _encoder_weights(model: MaskedImageModel, *, mask_token: bool) -> dict[str, Tensor]:
    """Return the weights of an encoder, with its mask token or without."""
    interface = decoder_interface(model)
    return {
        name: value
        for name, value in model.state_dict().items()
        if not interface.contains(name) and (mask_token or not interface.is_mask_token(name))
    }


def _lacks_mask_token(model: MaskedImageModel) -> bool:
    interface = decoder_interface(model)
    return interface.masked_patch is not None and not any(map(interface.is_mask_token, model.state_dict()))
