"""Decoded images with their names and content ids."""

from dataclasses import dataclass

from mimia.arrays import Floats, Ids, Indices, Pixels, fingerprint_of_ids


@dataclass(frozen=True)
class ImageSet:
    """Images of one size.

    Attributes:
        pixels: uint8, (N, C, H, W); usually a memory map.
        ids: Content id of each image, (N,).
        names: Where each image came from, for the reader of a report, (N,).
        facts: What its file says of each, float64, (N, facts), as `mimia.images.facts.FACTS` names them.
    """

    pixels: Pixels
    ids: Ids
    names: Ids
    facts: Floats

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Name of exactly these images in this order."""
        return fingerprint_of_ids(self.ids)

    def take(self, rows: Indices) -> "ImageSet":
        """Copy some rows into memory."""
        return ImageSet(self.pixels[rows], self.ids[rows], self.names[rows], self.facts[rows])


@dataclass(frozen=True)
class LeftOut:
    """An image that could not be used, and why."""

    name: str
    reason: str
