"""Pixel statistics that models are trained with, by name."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, raw pixels in [0, 1]."""

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OF_COLOURS: dict[str, Statistics] = {
    "ImageNet's": IMAGENET,
    "CLIP's": ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),
    "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
_OF_GREY: dict[str, Statistics] = {"MNIST's": ((0.1307,), (0.3081,))}


def named_statistics(channels: int) -> dict[str, Statistics]:
    """Return the statistics that are usual for a number of channels; the likeliest first.

    >>> list(named_statistics(1))
    ['mean 0.5 and std 0.5', 'pixels in [0, 1] as they are', "MNIST's"]
    """
    named = {3: _OF_COLOURS, 1: _OF_GREY}.get(channels, {})
    plain: dict[str, Statistics] = {
        "mean 0.5 and std 0.5": ((0.5,) * channels, (0.5,) * channels),
        "pixels in [0, 1] as they are": ((0.0,) * channels, (1.0,) * channels),
    }
    return named | plain if channels == 3 else plain | named
