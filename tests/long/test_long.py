"""A long run that was killed goes on with what had not passed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.long.__main__ import figures, main, run_all, run_slice
from tests.long.slices import DRIVERS, KILLED, PLAYED, TESTED, Slice
from tests.long.state import ROOT, Progress, tree

COUNTED = "import pathlib,sys; p=pathlib.Path(sys.argv[1]); p.write_text(p.read_text()+'x' if p.exists() else 'x');"


def counted(folder: Path, name: str, then: str = "print('figures: all is well')") -> Slice:
    """Return a slice that leaves a mark each time it runs."""
    return Slice(name, ("-c", COUNTED + then, str(folder / name)), TESTED)


def marks(folder: Path, *names: str) -> list[int]:
    """Return how often each slice ran."""
    return [len(path.read_text()) if (path := folder / name).exists() else 0 for name in names]


def test_a_second_run_goes_on_with_what_has_not_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The slice at work is killed together with its run: the one before it is not run again, the one after it is."""
    state, page = tmp_path / "state", tmp_path / "page.md"
    dies = counted(tmp_path, "dies", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    slices = [counted(tmp_path, "first"), dies, counted(tmp_path, "last")]
    text = (
        "import sys; from pathlib import Path; from tests.long.__main__ import run_all; "
        "from tests.long.slices import Slice; "
        f"run_all({slices!r}, Path({str(state)!r}), Path({str(page)!r}))"
    )
    killed = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert marks(tmp_path, "first", "dies", "last") == [1, 1, 0]

    assert run_all([slices[0], counted(tmp_path, "dies"), slices[2]], state, page) == 0

    assert marks(tmp_path, "first", "dies", "last") == [1, 2, 1]
    assert "1/3 first: passed before: all is well" in capsys.readouterr().out
    assert [row.split(" | ")[0] for row in page.read_text().splitlines()[7:]] == ["| first", "| dies", "| last"]


def test_what_failed_is_run_again_and_ends_with_1(tmp_path: Path) -> None:
    """A failure does not stop the others; it is on the page until the slice passes."""
    state, page = tmp_path / "state", tmp_path / "page.md"
    bad, good = counted(tmp_path, "bad", "sys.exit('no room')"), counted(tmp_path, "good")
    for times in (1, 2):
        assert run_all([bad, good], state, page) == 1
        assert marks(tmp_path, "bad", "good") == [times, 1]
    assert re.search(r"^\| bad \| .* \| \*\*failed\*\* \| no room \|$", page.read_text(), re.MULTILINE)

    assert run_all([counted(tmp_path, "bad"), good], state, page) == 0
    assert "failed" not in page.read_text()


def test_the_only_one_is_run_even_if_it_passed_and_rows_of_others_stay(tmp_path: Path) -> None:
    state, page = tmp_path / "state", tmp_path / "page.md"
    slices = [counted(tmp_path, "one"), counted(tmp_path, "two")]
    assert run_all(slices, state, page) == 0
    assert run_all(slices, state, page, only="two") == 0
    assert marks(tmp_path, "one", "two") == [1, 2]
    assert len(page.read_text().splitlines()) == 9
    assert run_all(slices[1:], state, page) == 0
    assert marks(tmp_path, "one", "two") == [1, 2]


def test_an_unknown_slice_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nonsense"]) == 2
    assert "the slices are: kills, " in capsys.readouterr().out


def test_output_is_kept_beside_the_state(tmp_path: Path) -> None:
    outcome = run_slice(Slice("a b", ("-c", "print('one'); print('two')"), TESTED), tmp_path)
    assert (tmp_path / "a-b.log").read_text() == "one\ntwo\n"
    assert outcome.figures == "two"
    assert Progress(tmp_path / "none").outcomes == {}


@pytest.mark.parametrize(
    ("pattern", "lines", "said"),
    [
        (TESTED, ["figures: 12 cells", "", "=== 3 passed, 1 skipped in 9s ==="], "12 cells; 3 passed, 1 skipped in 9s"),
        (TESTED, ["== 1 failed, 2 passed in 3.1s (0:00:03) =="], "1 failed, 2 passed in 3.1s (0:00:03)"),
        (KILLED, ["200 kills in 9 journeys, 7 s", "writes: 9 ok", "lost writes: 0"],
         "200 kills in 9 journeys, 7 s; lost writes: 0"),
        (PLAYED, ["500 histories, 0 with differences, 9 s", "3 moves"], "500 histories, 0 with differences, 9 s"),
    ],
)  # fmt: skip
def test_figures_are_what_a_slice_says_of_itself(pattern: str, lines: list[str], said: str) -> None:
    assert figures(Slice("x", (), pattern), lines) == said


def test_the_drivers_are_there() -> None:
    """Their modules exist, and the digest of the tree does not change by itself."""
    assert all((ROOT / part.words[1].replace(".", "/")).is_dir() or part.words[1] == "pytest" for part in DRIVERS)
    assert tree() == tree()


def test_tests_of_hours_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    """By their marker or by name; the tiers of minutes pass them over."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text().replace("pytest_plugins", "_"))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    hours: x\n    long: x\n")
    text = "import pytest\ndef test_brief(): pass\n@pytest.mark.hours\ndef test_hours(): pass\n"
    (tmp_path / "test_it.py").write_text(text)

    def ran(*words: str) -> str:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "1 passed, 1 deselected" in ran()
    assert "1 passed, 1 deselected" in ran("test_it.py")
    assert "1 passed, 1 deselected" in ran("-m", "hours")
    assert "1 passed in" in ran("test_it.py::test_hours")
