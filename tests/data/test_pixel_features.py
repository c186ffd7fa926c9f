import statistics

import numpy as np
import pytest

from mimia.data.pixel_features import pixel_features
from mimia.runtime.arrays import Pixels

every_shape = pytest.mark.parametrize("side", [3, 4, 8, 9, 17, 25])
both_colours = pytest.mark.parametrize("channels", [1, 3, 13])


def noise(count: int, channels: int, side: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def slow_quantile(values: list[float], proportion: float) -> float:
    ordered = sorted(values)
    place = proportion * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def slow_statistics(image: Pixels) -> list[float]:
    """Describe one image, (C, H, W), pixel by pixel."""
    channels, height, width = image.shape
    of_channels = [[float(value) for value in channel.ravel()] for channel in image]
    grey = [
        [sum(float(image[c, y, x]) for c in range(channels)) / channels for x in range(width)] for y in range(height)
    ]
    down = [abs(grey[y + 1][x] - grey[y][x]) for y in range(height - 1) for x in range(width)]
    across = [abs(grey[y][x + 1] - grey[y][x]) for y in range(height) for x in range(width - 1)]
    laplacian = [
        grey[y - 1][x] + grey[y + 1][x] + grey[y][x - 1] + grey[y][x + 1] - 4 * grey[y][x]
        for y in range(1, height - 1)
        for x in range(1, width - 1)
    ]
    borders = [abs(grey[y][x] - grey[y][x - 1]) for y in range(height) for x in range(8, width, 8)]
    edge = height // 4
    centre = [grey[y][x] for y in range(edge, height - edge) for x in range(edge, width - edge)]
    values = [int(value) for value in image.ravel()]
    return [
        *(sum(channel) / len(channel) for channel in of_channels),
        *(statistics.pstdev(channel) for channel in of_channels),
        *(
            slow_quantile(channel, proportion)
            for proportion in (0.05, 0.25, 0.5, 0.75, 0.95)
            for channel in of_channels
        ),
        sum(down) / len(down),
        sum(across) / len(across),
        sum(abs(value) for value in laplacian) / len(laplacian),
        statistics.pstdev(laplacian),
        sum(borders),
        sum(value in (0, 255) for value in values) / len(values),
        len(set(values)) - 1,
        sum(centre) / len(centre),
        sum(grey[0]) / width,
        sum(row[0] for row in grey) / height,
    ]


@both_colours
@every_shape
def test_statistics_are_those_of_the_definition(channels: int, side: int) -> None:
    pixels = noise(3, channels, side)
    pixels[1] //= 40  # some values are clipped and many are the same
    found = pixel_features(pixels)
    np.testing.assert_allclose(found, [slow_statistics(image) for image in pixels], rtol=1e-9, atol=1e-9)


@both_colours
def test_statistics_of_an_image_do_not_depend_on_the_others(channels: int) -> None:
    pixels = noise(260, channels, 12)
    together = pixel_features(pixels)
    for row in (0, 127, 128, 259):
        np.testing.assert_allclose(pixel_features(pixels[row : row + 1])[0], together[row])


@both_colours
@every_shape
@pytest.mark.parametrize("colour", [0, 128, 255])
def test_image_of_one_colour_is_finite(channels: int, side: int, colour: int) -> None:
    found = pixel_features(np.full((2, channels, side, side), colour, dtype=np.uint8))
    assert np.isfinite(found).all()
    assert (found[:, :channels] == colour).all()


def test_traces_of_an_encoder_are_seen_at_the_borders_of_blocks() -> None:
    smooth = np.full((1, 1, 32, 32), 100, dtype=np.uint8)
    blocks = smooth.copy()
    blocks[:, :, :, 8:16] += 10
    moved = np.roll(blocks, 3, axis=3)
    borders = [pixel_features(pixels)[0, -6] for pixels in (smooth, blocks, moved)]
    assert borders == [0, 10 * 2 * 32, 0]
