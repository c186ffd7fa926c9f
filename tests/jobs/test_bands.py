"""Audits of models of other images than grey or RGB squares, from the files to the page."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from PIL import Image
from torch.optim import AdamW

from mimia.config.settings import Settings, read_settings
from mimia.data.channel_statistics import pixel_statistics
from mimia.data.loading import load_images
from mimia.jobs.audit import audit
from mimia.jobs.results import AuditResult
from mimia.models.base import MaskedImageModel, ModelSpec
from mimia.models.mae import MAE, MAEArchitecture
from mimia.models.simmim import SIZES, SimMIM
from mimia.pretraining.command import pretrain
from mimia.report.html import render_report
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError

pytestmark = pytest.mark.usefixtures("quick_network")
HEIGHT, WIDTH = 16, 24
MEMBERS = 40
OF_CHECKPOINT = 100  # images that it is trained on
STEPS = {"registers": 200, "no class token": 120, "simmim": 320}  # until it knows them, and other images still a little


@pytest.fixture
def photographs(data_file: Callable[[str], Path]) -> Pixels:
    """Photographs of 16×24 pixels, (500, 3, H, W)."""
    column = pq.read_table(data_file("cifar10.parquet"), columns=["image"])["image"]
    rows = np.random.default_rng(0).permutation(len(column))[:500]
    images = (Image.open(io.BytesIO(column[int(row)].as_py()["bytes"])).convert("RGB") for row in rows)
    small = [np.asarray(image.resize((WIDTH, WIDTH)).crop((0, 4, WIDTH, 4 + HEIGHT))) for image in images]
    photographs: Pixels = np.stack(small).transpose(0, 3, 1, 2)
    return photographs


def bands_of(photographs: Pixels, bands: int) -> Pixels:
    """Return bands of photographs: mixtures of the colours, some of which are blurred and some sharpened."""
    mixtures = np.random.default_rng(bands).dirichlet(np.ones(3), bands)
    values = np.einsum("bc,nchw->nbhw", mixtures, photographs / 255)
    values[:, 1::3] = (values[:, 1::3] + np.roll(values[:, 1::3], 1, axis=-1)) / 2
    values[:, 2::3] = np.clip(0.5 + 2 * (values[:, 2::3] - np.roll(values[:, 2::3], 1, axis=-2)), 0, 1)
    whole: Pixels = np.rint(values * 255).astype(np.uint8)
    return whole


def write_tiffs(folder: Path, images: Pixels) -> Path:
    """Write images as satellites' are written: of 16 bits, band after band, compressed."""
    folder.mkdir()
    for number, image in enumerate(images):
        options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "separate", "predictor": True}
        tifffile.imwrite(folder / f"{number:03d}.tif", image.astype(np.uint16) * 257, compression="lzw", **options)
    return folder


def write_stack(folder: Path, images: Pixels) -> Path:
    np.save(folder.with_suffix(".npy"), images.transpose(0, 2, 3, 1))
    return folder.with_suffix(".npy")


def settings_of(place: Path, preset: str, members: Path, nonmembers: Path, **changes: Any) -> Settings:
    recipe = {"preset": preset, "size": "nano", "patch_size": 8, "mask_ratio": 0.5, "epochs": 2, "batch_size": MEMBERS}
    values: dict[str, Any] = {
        "store": str(place / "store"),
        "data": {"members": str(members), "nonmembers": str(nonmembers), "image_size": [HEIGHT, WIDTH]},
        "recipe": recipe | {"base_learning_rate": 0.016} | ({"cell": 1} if preset == "simmim-nano" else {}),
        "signals": {"draws": 2},
        "attacks": {"names": ["threshold", "calibrated"]},
        "compute": {"device": "cpu", "threads": 1},
    }
    return read_settings(None, values | {key: {**values.get(key, {}), **table} for key, table in changes.items()})


@pytest.mark.parametrize(
    ("preset", "bands", "write", "shown"),
    [("mae-nano", 4, write_tiffs, "1, 2 and 3 of 4"), ("simmim-nano", 13, write_stack, "13, 7 and 1 of 13")],
)
def test_model_of_bands_is_trained_and_audited_up_to_the_page(
    tmp_path: Path,
    photographs: Pixels,
    preset: str,
    bands: int,
    write: Callable[[Path, Pixels], Path],
    shown: str,
) -> None:
    images = bands_of(photographs, bands)[:90]
    members, nonmembers = write(tmp_path / "in", images[:10]), write(tmp_path / "out", images[10:])
    result = audit(settings=settings_of(tmp_path, preset, members, nonmembers))
    assert result.report.run.image_shape == (bands, HEIGHT, WIDTH)
    assert len(result.report.run.gallery) > 0
    assert np.isfinite(np.array(result.scores["calibrated score"], dtype=float)).all()
    page = render_report(result.report)
    assert f"Pictures show the bands {shown} as red, green and blue. The error is the mean over all bands." in page
    assert f"16 × 24 pixels, {bands} bands" in page


def test_canaries_of_bands_are_those_that_were_trained_on(tmp_path: Path, photographs: Pixels) -> None:
    images = bands_of(photographs, 4)[:40]
    stack = write_stack(tmp_path / "images", images)
    settings = settings_of(tmp_path, "mae-nano", stack, stack, data={"members": None, "nonmembers": None})
    data = settings.data.model_copy(update={"source": str(stack)})
    canaries = settings.canaries.model_copy(update={"count": 12, "kind": "patches"})
    out = pretrain(settings.model_copy(update={"data": data, "canaries": canaries}), tmp_path / "out")
    listed = (out / "trained_on.csv").read_text()
    for side, is_listed in (("included", True), ("excluded", False)):
        written = load_images(str(out / "canaries" / side), image_size=(HEIGHT, WIDTH))
        assert written.pixels.shape[1] == 4
        assert all((each in listed) is is_listed for each in written.ids.tolist())


def test_other_bands_than_the_targets_are_refused(tmp_path: Path, photographs: Pixels) -> None:
    sides = [write_stack(tmp_path / f"side {bands}", bands_of(photographs[:60], bands)) for bands in (4, 13)]
    data = {"members": None, "nonmembers": None, "source": str(sides[0])}
    own = pretrain(settings_of(tmp_path, "mae-nano", sides[0], sides[0], data=data), tmp_path / "own")
    changes: dict[str, Any] = {"data": {"channels": 13}}
    with pytest.raises(MimiaError, match=r"takes images of 4 channels, and data\.channels is 13: leave that out"):
        audit(str(own), settings=settings_of(tmp_path, "mae-nano", sides[0], sides[0], **changes))
    with pytest.raises(MimiaError, match=r"No image of .* can be used: .*bands: 13, where 4 are wanted"):
        audit(str(own), settings=settings_of(tmp_path, "mae-nano", sides[1], sides[1]))


def trained_elsewhere(images: Pixels, architecture: str, spec: ModelSpec) -> MaskedImageModel:
    """Train a model on images by another loop than mimia's."""
    generator = torch.Generator().manual_seed(0)
    sizes: dict[str, Any] = {"width": 64, "depth": 3, "heads": 4}
    decoder: dict[str, Any] = {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 4}
    parts: dict[str, dict[str, Any]] = {
        "registers": {"registers": 3, "layer_scale": True},
        "no class token": {"class_token": False},
    }
    model: MaskedImageModel
    if architecture == "simmim":
        model = SimMIM(spec, SIZES["nano"], generator)
    else:
        model = MAE(spec, MAEArchitecture(**sizes, **decoder, **parts[architecture]), generator)
    optimizer = AdamW(model.parameters(), lr=2e-3)
    pixels = torch.from_numpy(images)
    for _ in range(STEPS[architecture]):
        optimizer.zero_grad()
        model.loss(pixels, spec.training_masks(len(images), generator)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval()


def audited(settings: Settings, target: Path | None = None) -> AuditResult:
    return audit(settings=settings if target is None else settings.model_copy(update={"target": str(target)}))


def aucs(result: AuditResult) -> dict[str, float]:
    return {each.attack: float(each.auc.value or 0) for each in result.report.evaluations}


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "bands"), [("mae-nano", 1), ("mae-nano", 4), ("mae-nano", 13), ("simmim-nano", 4)])
def test_leak_of_a_model_that_is_trained_here_is_found(
    tmp_path: Path, photographs: Pixels, preset: str, bands: int
) -> None:
    images = bands_of(photographs, bands)
    members = write_stack(tmp_path / "in", images[:MEMBERS])
    nonmembers = write_stack(tmp_path / "out", images[MEMBERS:400])
    result = audit(settings=settings_of(tmp_path, preset, members, nonmembers, recipe={"epochs": 200}))
    assert aucs(result)["calibrated"] > 0.8
    assert result.report.verdict.title.startswith("Leaks")


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "bands"), [("registers", 4), ("no class token", 13), ("simmim", 4)])
def test_checkpoint_leaks_the_images_of_its_training_and_no_others(
    tmp_path: Path, photographs: Pixels, architecture: str, bands: int
) -> None:
    images = bands_of(photographs, bands)
    members, nonmembers, others = np.split(images, [OF_CHECKPOINT, 400])
    mean, std = pixel_statistics(load_images(members, channels=bands, image_size=(HEIGHT, WIDTH)))
    masking = {"masking": "cell", "cell": 1} if architecture == "simmim" else {}
    spec = ModelSpec.model_validate(
        {"image_size": (HEIGHT, WIDTH), "channels": bands, "patch_size": 8, "mask_ratio": 0.5}
        | {"target_space": "normalised", "mean": mean, "std": std, **masking}
    )
    sides = {name: write_tiffs(tmp_path / name, each) for name, each in [("in", members), ("out", nonmembers)]}
    preset = "simmim-nano" if architecture == "simmim" else "mae-nano"
    given: dict[str, Any] = {"mean": mean, "std": std, "heads": 4, "decoder_heads": 4, "target_space": "normalised"}
    given |= {"mask_ratio": 0.5, "image_size": [HEIGHT, WIDTH]} | ({"cell_size": 8} if masking else {})
    recipe = {"epochs": 200, "batch_size": OF_CHECKPOINT, "base_learning_rate": 0.005}
    settings = settings_of(tmp_path, preset, sides["in"], sides["out"], checkpoint=given, recipe=recipe)
    found = {}
    for name, seen in (("members", members), ("others", others)):
        model = trained_elsewhere(seen, architecture, spec)
        torch.save({"model": model.state_dict()}, tmp_path / f"{name}.pth")
        result = audited(settings, tmp_path / f"{name}.pth")
        found[name] = aucs(result)["calibrated"]
        print(architecture, bands, name, found[name], result.report.verdict.title)
        assert result.report.verdict.title.startswith("Leaks") is (name == "members")
    assert found["members"] > 0.8
    assert abs(found["others"] - 0.5) < 0.12
