import pytest

from mimia.attacks.registry import ATTACKS, make_attack
from mimia.attacks.selection import (
    DEFAULTS,
    ThreatModel,
    access_of,
    attack_table,
    obstacle,
    select,
    signal_table,
)
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import ACCESS_LEVELS, AccessLevel
from mimia.signals.registry import SIGNALS

EVERYTHING = ThreatModel(access="decoder", shadows=8, online=8, family="mae", fitting=True)


@pytest.mark.parametrize("access", ACCESS_LEVELS)
def test_defaults_of_a_level_can_be_run_there(access: AccessLevel) -> None:
    attacks, not_run = select(None, ThreatModel(access, shadows=2, online=0, family="beit"))
    assert tuple(attacks) == DEFAULTS[access]
    assert {*attacks} | {*not_run} == {*ATTACKS}
    assert {*not_run.values()} == {"It was not selected."}


@pytest.mark.parametrize("access", ACCESS_LEVELS)
@pytest.mark.parametrize(("shadows", "online"), [(1, 0), (2, 4), (8, 8)])
def test_all_is_what_can_be_run_and_a_reason_for_each_other(access: AccessLevel, shadows: int, online: int) -> None:
    threat_model = ThreatModel(access, shadows, online, "mae", fitting=access == "encoder")
    attacks, not_run = select(("all",), threat_model)
    assert sorted([*attacks, *not_run]) == sorted(ATTACKS)
    for attack in attacks.values():
        requirements = attack.requirements
        assert ACCESS_LEVELS.index(access_of(requirements)) <= ACCESS_LEVELS.index(access)
        assert requirements.shadows <= (online if requirements.online else shadows)
    for reason in not_run.values():
        lacks = ("shadow models", "halves of the evaluated images", f"has the {access} alone", "decoder that is fitted")
        assert any(what in reason for what in lacks)


def test_everything_is_run_where_nothing_lacks() -> None:
    attacks, not_run = select(("all",), EVERYTHING)
    assert [*attacks] == [*ATTACKS]
    assert not_run == {}


@pytest.mark.parametrize(
    ("name", "threat_model", "mending"),
    [
        (
            "gradient",
            ThreatModel("encoder", 4, 4, "mae"),
            "needs the target's decoder, and this run has the encoder alone",
        ),
        (
            "threshold",
            ThreatModel("embeddings", 4, 4, "mae"),
            "needs the target's encoder, and this run has the embeddings alone",
        ),
        ("calibrated", ThreatModel("decoder", 1, 4, "mae"), "raise shadows.count"),
        ("dov4mm", ThreatModel("decoder", 4, 4, "mae"), "set decoder.source to fitted"),
        ("lira-online", ThreatModel("decoder", 4, 4, "mae"), "set shadows.online to 6 or more"),
    ],
)
def test_attack_that_is_named_and_cannot_be_run_is_refused(name: str, threat_model: ThreatModel, mending: str) -> None:
    with pytest.raises(MimiaError, match=f"{name}.*{mending}"):
        select((name,), threat_model)
    assert obstacle(make_attack(name), EVERYTHING) is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "at least one attack, and each once"),
        (("threshold", "threshold"), "at least one attack, and each once"),
        (("all", "threshold"), "'all' selects every attack that can be run"),
        (("threshold", "guess"), "There is no attack 'guess'"),
    ],
)
def test_none_twice_unknown_and_all_with_others_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(MimiaError, match=message):
        select(names, EVERYTHING)


def test_attacks_are_run_in_the_order_of_their_names() -> None:
    names = ("ensemble", "threshold", "base")
    assert (*select(names, EVERYTHING)[0],) == names


def test_tables_have_a_row_for_each_attack_and_each_signal() -> None:
    assert [row["attack"] for row in attack_table()] == [*ATTACKS]
    assert all(all(row.values()) for row in attack_table())
    assert [row["signal"] for row in signal_table()] == [*SIGNALS]
    assert all(all(row.values()) for row in signal_table())


@pytest.mark.parametrize("family", ["simmim", "swin", "beit"])
def test_attacks_on_latents_are_for_families_that_predict_them(family: str) -> None:
    threat_model = ThreatModel("encoder", shadows=8, online=8, family=family, fitting=True)
    of_mae = ThreatModel("encoder", shadows=8, online=8, family="mae", fitting=True)
    attacks, not_run = select(("all",), threat_model)
    missing = [name for name in select(("all",), of_mae)[0] if name not in attacks]
    assert missing == ["dov4mm", "dov4mm-calibrated"]
    assert f"made for mae alone and not for {family}" in not_run["dov4mm"]
    table = {row["attack"]: row["access"] for row in attack_table()}
    assert (table["dov4mm"], table["threshold"], table["similarity"]) == ("encoder (mae)", "encoder", "embeddings")
