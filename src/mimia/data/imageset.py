"""Decoded images with their names and content ids."""

from dataclasses import dataclass

from mimia.runtime.arrays import Floats, Ids, Indices, Pixels, fingerprint_of_ids


@dataclass(frozen=True, repr=False)
class ImageSet:
    """Images of one size.

    Attributes:
        pixels: uint8, (N, C, H, W); usually a memory map.
        ids: Content id of each image, (N,).
        names: Where each image came from, for the reader of a report, (N,).
        facts: What the file of each says, float64, (N, facts), named by `mimia.data.file_metadata.FACTS`.
    """

    pixels: Pixels
    ids: Ids
    names: Ids
    facts: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"ImageSet({len(self):,} images, {'×'.join(map(str, self.pixels.shape[1:]))})"

    @property
    def fingerprint(self) -> str:
        """Hash of exactly these images in this order."""
        return fingerprint_of_ids(self.ids)

    def take(self, rows: Indices) -> "ImageSet":
        """Return a copy of some rows, in memory."""
        return ImageSet(self.pixels[rows], self.ids[rows], self.names[rows], self.facts[rows])


@dataclass(frozen=True)
class LeftOut:
    """An image that could not be used, and why."""

    name: str
    reason: str
