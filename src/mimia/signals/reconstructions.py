"""How well a model reconstructs an image: as training showed it, and around that.

What surrounds the question of training, other mask ratios and the mirrored or shifted image, tells how well the model
reconstructs such an image without having seen it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mimia.arrays import Bools, Floats, Ids, Pixels
from mimia.compute import accelerator
from mimia.config import Patches
from mimia.encoders.patches import patchify
from mimia.images.augment import augment
from mimia.seeds import torch_generator
from mimia.signals.kinds import Asking, Kind, Subject
from mimia.signals.measures import MEASURES, Measure

_OTHER_RATIOS = (0.5, 0.9)
_SHIFTS = ((0, 2), (2, 0), (-1, -2))  # pixels down and across
_LOG_FLOOR = 1e-4  # added to a patch's error before its logarithm: a patch of one colour can have none


class Distances(Kind):
    """The distance of an image from its reconstruction under masks drawn as in training: one number a mask.

    By default it is the training loss.
    """

    access = "encoder"
    summary = "reconstruction error under masks as in training"
    asks = "signals.draws masks"

    def passes(self, asking: Asking) -> int:
        """One a mask."""
        return asking.settings.draws

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """Number, seed and shape of the masks; the distance and its patches, if not those of training."""
        other = asking.settings.model_dump(include={"distance", "patches"}, exclude_defaults=True)
        return asking.masking | {"draws": asking.settings.draws} | other

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give the mean distance of the chosen patches under each mask: (B, draws).

        That of training is in the model's target space, any other as `MEASURES` has it.
        """
        masks = asking.spec.scoring_masks(ids, asking.settings.draws, asking.settings.seed)
        images, hidden = subject.tensor(pixels), subject.tensor(masks)
        chosen = _chosen(hidden, asking.settings.patches)
        if asking.settings.distance == "training":
            errors = _patch_errors(subject, images, hidden, asking)
        else:
            errors = _measured(MEASURES[asking.settings.distance], subject, images, hidden, chosen, asking)
        distances: Floats = ((errors * chosen).sum(dim=-1) / chosen.sum(dim=-1)).cpu().numpy()
        return distances


class Surroundings(Kind):
    """Errors under complementary masks, and of what training did not ask: other ratios, mirrored and shifted images.

    Where the target was trained on crops, crops drawn as in training are among them. Of each question two numbers are
    kept: the logarithm of the mean error, and the mean over the patches of the logarithm of the error, in which
    patches that are easy to predict weigh as much as others.
    """

    access = "encoder"
    summary = "reconstruction errors at other mask ratios, mirrored, shifted, patch by patch"
    asks = "3 times signals.draws masks"

    def passes(self, asking: Asking) -> int:
        """Those of the question with the most draws."""
        return asking.settings.draws

    def question(self, asking: Asking) -> Mapping[str, Any]:
        """The masks, and how training augmented."""
        return asking.masking | {
            "draws": asking.settings.draws,
            "ratios": _OTHER_RATIOS,
            "shifts": _SHIFTS,
            "crops": asking.recipe.crop_area if asking.recipe.augmentation == "crop" else None,
        }

    def measure(self, subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Floats:
        """Give two logarithms for each question, in the model's target space: (B, 2 × questions)."""
        numbers = []
        for images, masks in _questions(subject, pixels, ids, asking):
            hidden = subject.tensor(masks)
            errors = _patch_errors(subject, images, hidden, asking)
            count = hidden.sum(dim=(1, 2))
            mean = (errors * hidden).sum(dim=(1, 2)) / count
            logs = (torch.log(errors + _LOG_FLOOR) * hidden).sum(dim=(1, 2)) / count
            numbers += [torch.log(mean + _LOG_FLOOR), logs]
        stacked: Floats = torch.stack(numbers, dim=1).cpu().numpy()
        return stacked


def shifted(pixels: Pixels, down: int, across: int) -> Pixels:
    """Move images by some pixels; what enters is the mirrored border.

    >>> shifted(np.arange(9, dtype=np.uint8).reshape(1, 1, 3, 3), 1, 0)[0, 0]
    array([[3, 4, 5],
           [0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """
    height, width = pixels.shape[-2:]
    reach = max(abs(down), abs(across))
    padded = np.pad(pixels, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="reflect")
    top, left = reach - down, reach - across
    return padded[:, :, top : top + height, left : left + width]


def _questions(subject: Subject, pixels: Pixels, ids: Ids, asking: Asking) -> Iterator[tuple[Tensor, Bools]]:
    """Give images, (B, C, H, W) or one for each mask, (B·K, C, H, W), with masks, (B, K, L)."""
    spec, seed, draws = asking.spec, asking.settings.seed, asking.settings.draws
    fewer = max(1, draws // 4)
    plain = subject.tensor(pixels)
    yield plain, spec.complementary_masks(ids, draws, seed + 1)
    for ratio in _OTHER_RATIOS:
        other = spec.model_copy(update={"mask_ratio": ratio})
        if 0 < other.visible < other.tokens:
            yield plain, other.scoring_masks(ids, fewer, seed)
    yield plain.flip(-1), spec.scoring_masks(ids, draws // 2 or 1, seed)
    for down, across in _SHIFTS:
        yield subject.tensor(shifted(pixels, down, across)), spec.scoring_masks(ids, fewer, seed)
    if asking.recipe.augmentation == "crop":
        yield _crops(plain, ids, draws, asking), spec.scoring_masks(ids, draws, seed)


def _crops(images: Tensor, ids: Ids, draws: int, asking: Asking) -> Tensor:
    """Crop each image as in training, as often as there are draws: (B·K, C, H, W)."""
    crops = []
    for image, name in zip(images.cpu(), ids, strict=True):
        generator = torch_generator("cpu", asking.settings.seed, "crops", str(name))
        copies = image.expand(draws, -1, -1, -1)
        crops.append(augment(copies, "crop", generator, asking.recipe.crop_area))
    return torch.cat(crops).to(images.device)


def _patch_errors(subject: Subject, images: Tensor, masks: Tensor, asking: Asking) -> Tensor:
    """Training loss of each patch: (B, K, L); images may be one for each mask, (B·K, C, H, W)."""
    shape = masks.shape
    if len(images) != len(masks):
        masks = masks.flatten(0, 1).unsqueeze(1)
    with torch.inference_mode(), accelerator(asking.compute).autocast():
        predictions = subject.model.reconstruct(images, masks)
        return subject.model.patch_errors(predictions, images).float().view(shape)


def _measured(
    measure: Measure, subject: Subject, images: Tensor, masks: Tensor, chosen: Tensor, asking: Asking
) -> Tensor:
    """Measure each patch of images in which the chosen ones are as predicted, and the others as they are: (B, K, L).

    So the structural similarity, whose windows reach beyond a patch, depends on the chosen predictions alone, as the
    other distances do; what a model makes of visible patches, which no training asked for, does not mix with what it
    makes of masked ones.
    """
    model = subject.model
    with torch.inference_mode():
        with accelerator(asking.compute).autocast():
            predictions = model.reconstruct(images, masks)
        patches = patchify(model.spec.normalise(images), model.spec.patch_size).unsqueeze(1)
        composed = torch.where(chosen.unsqueeze(-1), model.in_pixels(predictions, images), patches)
        return measure(model.spec, composed, images)


def _chosen(masks: Tensor, patches: Patches) -> Tensor:
    """Tell which patches count: (B, K, L)."""
    match patches:
        case "masked":
            return masks
        case "visible":
            return ~masks
        case "all":
            return torch.ones_like(masks)
