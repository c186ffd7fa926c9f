"""Decoding, and the augmentation of a batch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mimia.config.recipes import Augmentation
from mimia.data.augmentation import augment
from mimia.data.loading import load_sides
from mimia.runtime.store import Store


def test_decode_24_000_images(
    benchmark: BenchmarkFixture, data_file: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = str(data_file("cifar10.parquet"))

    def decode() -> None:
        load_sides({"source": source}, Store(tmp_path_factory.mktemp("store")))

    benchmark(decode)


@pytest.mark.parametrize("kind", ["flip", "crop"])
def test_augment_256_images(benchmark: BenchmarkFixture, kind: Augmentation) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (256, 3, 32, 32), dtype=torch.uint8, generator=generator)
    benchmark(augment, images, kind, generator)
