"""What an audit finds with less and less of the model: its decoder, its encoder, its embeddings."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mimia.config.settings import read_settings
from mimia.data.imageset import ImageSet
from mimia.jobs.audit import audit
from mimia.jobs.infer import infer
from mimia.models.checkpoints import native
from mimia.models.embedders import embedder_of
from mimia.models.mae import MAE, of_decoder
from mimia.pretraining.command import TRAINED_ON, pretrain
from mimia.report.schema import AuditReport
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.errors import MimiaError

pytestmark = pytest.mark.usefixtures("quick_network")
QUICK: dict[str, Any] = {
    "recipe": {"preset": "mae-nano", "patch_size": 4, "mask_ratio": 0.5, "epochs": 10, "batch_size": 40},
    "signals": {"draws": 2},
    "compute": {"device": "cpu", "threads": 1},
    "split": {"n_members": 40, "n_nonmembers": 100, "shadow_size": 40, "n_holdout": 60, "n_decoder": 60},
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, store_with_digits: Callable[[Path], Path]) -> Path:
    return store_with_digits(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def target(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = read_settings(None, QUICK | {"store": str(shared), "split": {"n_members": 40}})
    return pretrain(settings, tmp_path_factory.mktemp("target") / "checkpoint")


@pytest.fixture(scope="module")
def folders(target: Path, digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the target was trained on, and all else."""
    root = tmp_path_factory.mktemp("folders")
    seen = {line.split(",")[1] for line in (target / TRAINED_ON).read_text().splitlines()[1:]}
    for row, identity in enumerate(digits.ids):
        if identity not in seen and row >= 500:
            continue  # the others are many enough
        path = root / ("members" if identity in seen else "others") / f"{row:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(digits.pixels[row, 0]).save(path)
    return {"members": str(root / "members"), "nonmembers": str(root / "others")}


def brightness(pixels: Pixels) -> Floats:
    """Embed an image by its mean and its spread: a function that saw no image in training."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    return np.stack([flat.mean(axis=1), flat.std(axis=1)], axis=1)


@pytest.mark.parametrize(
    ("source", "access"), [("own", "D1"), ("fitted", "D3"), ("shadow", "D2"), ("aligned", "D2"), (None, "D1")]
)
def test_every_source_of_decoders_is_audited_and_named(shared: Path, source: str | None, access: str) -> None:
    settings = read_settings(None, QUICK | {"store": str(shared), "decoder": {"source": source, "epochs": 2}})
    report = audit(settings=settings).report
    assert access in report.run.access
    assert [model.images for model in report.run.models] == [40, 40, 40]
    assert all(evaluation.auc.value is not None for evaluation in report.evaluations)


def encoder_alone(target: Path, to: Path) -> Path:
    model = native.load(target)
    assert isinstance(model, MAE)
    sizes = {"decoder_width": 0, "decoder_depth": 0, "decoder_heads": 0}
    alone = MAE(model.spec, model.architecture.model_copy(update=sizes))
    alone.load_state_dict({name: value for name, value in model.state_dict().items() if not of_decoder(name)})
    native.save(to, alone)
    return to


def test_encoder_alone_gets_a_decoder_and_images_to_fit_it_on(
    shared: Path, target: Path, folders: dict[str, str], tmp_path: Path
) -> None:
    alone = encoder_alone(target, tmp_path / "encoder")
    settings = read_settings(
        None, QUICK | {"store": str(shared), "target": str(alone), "data": folders, "decoder": {"epochs": 2}}
    )
    report = audit(settings=settings).report
    assert "D3" in report.run.access
    assert report.run.gallery
    with pytest.raises(MimiaError, match="has no decoder of its own"):
        audit(settings=settings.model_copy(update={"decoder": settings.decoder.model_copy(update={"source": "own"})}))


def npy(values: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def audit_embeddings(shared: Path, folders: dict[str, str], embeddings: str) -> AuditReport:
    settings = read_settings(None, QUICK | {"store": str(shared), "embeddings": embeddings, "data": folders})
    return audit(settings=settings).report


def test_endpoint_of_a_model_is_audited_by_its_embeddings(
    shared: Path, target: Path, folders: dict[str, str], serve: Callable[..., AbstractContextManager[str]]
) -> None:
    embed = embedder_of(native.load(target))
    with serve(lambda pixels: npy(embed(pixels[:, :1]))) as url:
        report = audit_embeddings(shared, folders, url)
    assert report.run.access == "embeddings"
    assert report.run.gallery == ()
    assert report.run.models[0].images is None
    by_function = audit_embeddings(shared, folders, "mimia.data.pixel_features:pixel_features")
    assert by_function.run.models[0].id != report.run.models[0].id
    assert by_function.run.query_id == report.run.query_id


def test_candidates_are_judged_by_embeddings_too(
    shared: Path, folders: dict[str, str], serve: Callable[..., AbstractContextManager[str]]
) -> None:
    with serve(lambda pixels: npy(brightness(pixels))) as url:
        data = {"reference": folders["nonmembers"]}
        split = {"shadow_size": 40, "n_holdout": 60}
        settings = read_settings(None, QUICK | {"store": str(shared), "embeddings": url, "data": data, "split": split})
        report = infer(candidates=folders["members"], settings=settings).report
    assert report.run.access == "embeddings"
    assert report.verdict.kind != "leaks"
