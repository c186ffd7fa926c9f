"""How many bands the images of a source have, where nobody says it."""

from collections import Counter
from collections.abc import Iterable

from mimia.data.bands import COLOURS, BandImage, DecodeError
from mimia.data.decoding import ImageInput, open_image
from mimia.data.sources.files import counted
from mimia.runtime.errors import MimiaError


def most_common_bands(images: Iterable[ImageInput], name: str, colours: int = 0) -> int:
    """Return the number of bands that most images of a source have: RGB where some are grey and others RGB.

    Args:
        images: Those that may have other bands than grey and RGB; of files only the headers are read.
        name: The source.
        colours: Number of its other images.

    Raises:
        MimiaError: No number is that of most images.
    """
    counts = Counter({3: colours} if colours else {})
    counts.update(filter(None, map(_bands_of, images)))
    if not counts or counts.keys() <= set(COLOURS):
        return max(counts, default=3)
    bands, most = counts.most_common(1)[0]
    if 2 * most <= counts.total():
        found = ", ".join(f"{bands} ({counted(count, 'image')})" for bands, count in sorted(counts.items()))
        raise MimiaError(f"{name} has images of different numbers of bands, {found}: pass --set data.channels=N.")
    return bands


def _bands_of(image: ImageInput) -> int | None:
    """Return the number of bands; 3 for what Pillow reads, and None for what nothing does."""
    try:
        with open_image(image) as header:
            return header.bands if isinstance(header, BandImage) else 3
    except DecodeError:
        return None
