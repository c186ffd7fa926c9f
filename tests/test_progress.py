import pytest

from mimia.progress import progress


def test_log_file_gets_one_line_when_the_work_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("training", total=10, done=3) as advance:
        advance(2)
        assert capsys.readouterr().err == ""
        advance(5)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("training ")
    assert "10/10" in err


def test_interrupted_work_shows_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with progress("training", total=10, done=3) as advance:
            advance(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert "5/10" in capsys.readouterr().err


def test_program_without_a_standard_error_works_in_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with progress("training", total=1) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")
