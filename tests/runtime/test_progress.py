import io

import pytest
from rich.console import Console

from mimia.runtime.progress import overall, progress


def work_in_parts() -> None:
    with overall(2) as show:
        show(0, "audits 0/2")
        with progress("training", 3) as advance:
            advance(3)
        print("1/2 one")
        show(2, "audits 2/2")


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


def test_bar_over_all_outlasts_those_of_its_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("mimia.runtime.progress.console", Console(file=terminal, force_terminal=True, width=100))
    work_in_parts()
    assert capsys.readouterr().out == "1/2 one\n"  # where it was sent, and not among the bars
    lines = terminal.getvalue().splitlines()
    assert any("training" in line and "3/3" in line for line in lines)
    assert "audits 2/2" in [line for line in lines if "━" in line][-1]


def test_log_file_gets_no_bar_over_all(capsys: pytest.CaptureFixture[str]) -> None:
    work_in_parts()
    out, err = capsys.readouterr()
    assert out == "1/2 one\n"
    assert err.startswith("training ")
    assert err.count("\n") == 1
