"""The plan of a run: what it is going to do and what that costs, before any model is trained."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mimia.cli.app import app
from mimia.data.imageset import ImageSet
from mimia.jobs.audit import PreparedAudit, prepare_audit
from mimia.jobs.infer import prepare_inference
from mimia.jobs.inputs import job_inputs
from mimia.models.checkpoints import native
from mimia.models.mae import of_decoder
from mimia.pretraining.interface import pretrain
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.rehearsal import EstimatedWork
from mimia.runtime.store import Store

pytestmark = pytest.mark.usefixtures("quick_network")
NANO = {"preset": "mae-nano", "patch_size": 4, "mask_ratio": 0.5, "epochs": 20, "batch_size": 50}


@pytest.fixture
def store(tmp_path: Path, store_with_digits: Callable[[Path], Path]) -> Path:
    return store_with_digits(tmp_path / "store")


def prepared(store: Path, target: object = None, **changes: Any) -> PreparedAudit:
    split = {"n_members": 100, "n_nonmembers": 200}
    values = {"store": str(store), "recipe": NANO, "split": split, "signals": {"draws": 2}, "shadows": {"count": 2}}
    sides = changes.pop("sides", {})
    return prepare_audit(job_inputs(values | {"compute": {"threads": 1}} | changes, (), target=target, **sides))


def names(work: Any) -> dict[str, int]:
    """Units of the work by its name."""
    return {each.what: each.units for each in work}


def models_in(store: Path) -> list[Path]:
    return [*store.glob("models/*"), *store.glob("decoders/*"), *store.glob("signals/*")]


def test_plan_has_every_training_and_query_and_changes_nothing(store: Path) -> None:
    job = prepared(store)
    plan = job.plan()
    assert not models_in(store)
    pool = len(job.split.shadow_pool)
    steps = {"target": 20 * 2, "shadow 1 of 2": 20 * -(-pool // 2 // 50), "shadow 2 of 2": 20 * -(-pool // 2 // 50)}
    assert names(each for each in plan.work if each.action == "train") == steps
    asked = {each.what for each in plan.work if each.action == "query"}
    assert {f"reconstruction: {model}" for model in ("target", "shadow 1", "shadow 2", "untrained model")} <= asked
    evaluated = len(job.split.evaluated) + len(job.split.auxiliary.population)
    of_target = [each.units for each in plan.work if each.what == "reconstruction: target"]
    assert sum(of_target) == evaluated


def test_time_is_about_that_of_the_run(store: Path) -> None:
    job = prepared(store, recipe=NANO | {"epochs": 200})
    planned = job.plan().seconds
    started = time.monotonic()
    job.run()
    assert 1 / 3 < planned / (time.monotonic() - started) < 3


def test_long_plan_names_what_fewer_masks_would_take(store: Path) -> None:
    plan = prepared(store, signals={"draws": 16}).plan()
    assert "signals.draws" not in str(plan)
    work = (EstimatedWork("train", "shadow 1 of 2", 40, 600.0), EstimatedWork("query", "reconstruction", 9, 6000.0))
    long = str(replace(plan, work=work))
    assert "in all     about 110 minutes" in long
    assert "faster     about 35 minutes with --set signals.draws=4" in long


def test_what_the_store_has_is_not_planned_again(store: Path) -> None:
    prepared(store).run()
    plan = prepared(store).plan()
    assert not plan.work
    assert "nothing: the store has all" in str(plan)
    more = prepared(store, shadows={"count": 4}).plan()
    trained = names(each for each in more.work if each.action == "train")
    assert set(trained) <= {f"shadow {number} of 4" for number in range(1, 5)}


@pytest.mark.parametrize(
    "defence",
    [
        {"ema": {"decay": 0.9}},
        {"early_stopping": {"patience": 2}},
        {"deduplicate": {}},
        {"cross_fitting": {"pairs": 1}},
    ],
    ids=lambda defence: next(iter(defence)),
)
def test_defended_trainings_are_planned(store: Path, defence: dict[str, Any]) -> None:
    plan = prepared(store, recipe=NANO | {"defences": defence}).plan()
    assert {"target", "shadow 1 of 2", "shadow 2 of 2"} <= set(names(plan.work))


def test_what_would_fail_after_the_trainings_fails_before(store: Path) -> None:
    job = prepared(store, decoder={"source": "aligned"}, shadows={"count": 1}, attacks={"names": ["threshold"]})
    with pytest.raises(MimiaError, match=r"raise shadows.count to 2"):
        job.plan()
    assert not models_in(store)


def test_checkpoint_is_named_and_not_trained(store: Path, digits: ImageSet, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).permutation(len(digits))
    model = pretrain(digits.take(rows[:100]), NANO | {"epochs": 100}, store=store)
    directory = tmp_path / "theirs"
    directory.mkdir()
    native.save(directory, model)  # without the record of its training, as anybody's
    sides = {"members": digits.pixels[rows[:100]], "nonmembers": digits.pixels[rows[100:900]]}
    plan = prepared(store, directory, sides=sides, split={}, recipe={}).plan()
    assert str(directory) in str(plan)
    assert "100 members" in str(plan)
    assert not any(each.what == "target" for each in plan.work)


def test_decoders_that_are_fitted_are_planned(store: Path, digits: ImageSet, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).permutation(len(digits))
    model = pretrain(digits.take(rows[:100]), NANO, store=store)
    encoder = model.architecture.model_copy(
        update=dict.fromkeys(("decoder_width", "decoder_depth", "decoder_heads"), 0)
    )
    bare = type(model)(model.spec, encoder)
    bare.load_state_dict({name: value for name, value in model.state_dict().items() if not of_decoder(name)})
    directory = tmp_path / "encoder"
    directory.mkdir()
    native.save(directory, bare)
    sides = {"members": digits.pixels[rows[:100]], "nonmembers": digits.pixels[rows[100:1300]]}
    plan = prepared(store, directory, sides=sides, split={}).plan()
    assert {"decoder: target", "decoder: shadow 1", "decoder: shadow 2"} <= set(names(plan.work))


def test_inference_has_a_plan(store: Path, digits: ImageSet) -> None:
    model = pretrain(digits.take(np.arange(100)), NANO, store=store)
    values = {"store": str(store), "signals": {"draws": 2}, "compute": {"threads": 1}}
    inputs = job_inputs(values, (), target=model, reference=digits.pixels[100:700])
    plan = prepare_inference(inputs, digits.pixels[90:110]).plan()
    assert "20 candidates" in str(plan)
    assert any(each.action == "train" for each in plan.work)


def test_function_is_asked_about_each_first_batch_once(store: Path, digits: ImageSet) -> None:
    asked: list[int] = []

    def embed(pixels: Pixels) -> Pixels:
        asked.append(len(pixels))
        return pixels.reshape(len(pixels), -1).astype(np.float32)

    sides = {"members": digits.pixels[:100], "nonmembers": digits.pixels[100:900]}
    signals = {"draws": 2, "batch_size": 8}
    job = prepared(store, embed, sides=sides, split={}, recipe={"preset": "mae-nano", "epochs": 2}, signals=signals)
    queries = [each for each in job.plan().work if each.what.endswith(": target")]

    assert queries
    assert len(asked) <= 3 * len(queries)  # a batch takes one call or two, and some calls come before the first batches


def test_command_stops_after_its_plan(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["audit", "--plan", "--store", str(store), "--recipe", "mae-nano", "--epochs", "20"]
    shown = CliRunner().invoke(app, options)
    assert shown.exit_code == 0
    for line in ("target", "images", "to train", "to query", "in all", "memory"):
        assert f"\n  {line} " in f"\n{shown.stdout}"
    assert len(shown.stdout.splitlines()) < 24
    assert not (tmp_path / "mimia-runs").exists()
    assert not models_in(store)


def test_artifact_of_a_remote_store_is_found_at_its_location(tmp_path: Path) -> None:
    settings = {"number": 1}
    remote = f"memory://{tmp_path.name}"
    Store(remote, tmp_path / "here").make("things", settings, lambda work: None)
    elsewhere = Store(remote, tmp_path / "there")
    assert elsewhere.find("things", settings) is None
    assert elsewhere.fetched("things", settings) is not None
    assert elsewhere.fetched("things", {"number": 2}) is None
