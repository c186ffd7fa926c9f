"""Images as the target reconstructs them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mimia.report.pictures import Picture, bands_note
from mimia.report.sections.base import ReportPart, Section

if TYPE_CHECKING:
    from mimia.report.schema import Report


class Exhibit(ReportPart):
    """One image as the model sees it; pictures are data URIs of PNG files.

    Attributes:
        name: Where the image came from.
        id: Its content id.
        group: ``member``, ``non-member`` or ``candidate``.
        score: Of the strongest attack.
        distance: Mean squared error over the masked patches under the mask that is shown.
        original: The image.
        masked: What the model was shown.
        reconstructed: Its prediction of the masked patches, among the visible ones.
        error: Absolute error of the masked patches; white is none, dark is large.
    """

    name: str
    id: str
    group: str
    score: float
    distance: float
    original: Picture
    masked: Picture
    reconstructed: Picture
    error: Picture


class GallerySection(Section):
    """The images with the highest scores (and in an audit some non-members), with their reconstructions."""

    def applies(self, report: "Report") -> bool:
        """Return whether the target reconstructs images."""
        return bool(report.run.gallery)

    def values(self, report: "Report") -> Mapping[str, object]:
        """Return which bands the pictures show."""
        return {"bands": bands_note(report.run.image_shape[0])}
