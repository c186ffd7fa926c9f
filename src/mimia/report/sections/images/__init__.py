"""Which images a run used, and which it could not use."""

from mimia.report.sections.base import Section


class ImagesSection(Section):
    """The number of images in each role, exact duplicates, and images that could not be used."""
