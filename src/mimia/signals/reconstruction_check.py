"""Check that a model reconstructs: a wrong pixel space makes all distances meaningless without raising an error."""

from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.relative_error import reconstruction_errors
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError


def check_reconstruction(model: MaskedImageModel, images: ImageSet, compute: ComputeSettings) -> None:
    """Raise if a model reconstructs worse than the mean colour does.

    Raises:
        MimiaError: It does; the message names the likely causes.
    """
    ratio = reconstruction_errors(model, images, compute).relative
    if not ratio < 1:
        raise MimiaError(
            f"The target reconstructs ordinary images worse than the mean colour does (error {ratio:.2f} times as "
            "large), so its distances mean nothing: set checkpoint.target_space (patch-normalised for MAE's *_full "
            "files, normalised for *_visualize), checkpoint.mean and checkpoint.std as in its training, or pass a "
            "checkpoint whose decoder belongs to its encoder."
        )
