"""The verdict, and the validity checks on which it depends."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mimia.report.pictures import Picture, bands_note
from mimia.report.sections.base import ReportPart, Section
from mimia.validity.verdict import RULE

if TYPE_CHECKING:
    from mimia.report.schema import Report

_MARKS = {"passed": "✓", "noted": "!", "failed": "✗"}


class NearDuplicatePictures(ReportPart):
    """Two images that show the same picture, one of each side.

    Attributes:
        names: Where they came from.
        pictures: Data URIs of PNG files.
    """

    names: tuple[str, str]
    pictures: tuple[Picture, Picture]


class VerdictSection(Section):
    """The verdict in one sentence, the outcome of each validity check, and the figures behind the checks."""

    def values(self, report: "Report") -> Mapping[str, object]:
        """Return the rule of the verdict, the marks of the checks, and which bands the pictures show."""
        return {"rule": RULE, "marks": _MARKS, "bands": bands_note(report.run.image_shape[0])}
