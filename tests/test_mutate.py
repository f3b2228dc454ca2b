# SPDX-License-Identifier: MIT
"""mutate.py: that it tells a killed mutant from a survivor, and fails for a survivor or an entry
that should not be.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mutate
from lib.console import ROOT
from lib.environments import ToolsError

pytestmark = pytest.mark.long

ORIGINAL = (ROOT / "authorizer.py").read_text()
STAGES = mutate.STAGES
# Tests of scripts and of the repository's own files: they say the same of any authorizer under
# test, or start other tests.
OF_NO_SUBJECT = {
    "bench",  # measures the repository's file
    "copies",  # aims the fast half at other files itself
    "facts",  # prints those of the repository's file
    "mutate",
    "package",  # packs the repository's file
    "rehearse_release",  # releases HEAD
    "try_it",  # shows the repository's file
    "rotator",  # runs the rotation function
    "verify_copy",  # compares with the repository's file
}
UNCHANGED = mutate.Mutant("@ module\n+ # nothing", ORIGINAL + "# nothing\n")


def mutant(name: str, before: str, after: str) -> mutate.Mutant:
    """authorizer.py with one change."""
    assert ORIGINAL.count(before) == 1
    return mutate.Mutant(f"@ {name}\n- {before}\n+ {after}", ORIGINAL.replace(before, after))


OPEN = mutant("scan", "hmac.compare_digest(digest, reading.digest)", "True")
ENDLESS = mutant("presented_key", '    key = ""\n    for', "    while True: pass\n    for")


@pytest.fixture(autouse=True)
def aimed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Few tests and a short limit; the list of known survivors."""
    monkeypatch.setattr(mutate, "STAGES", [["headers"], ["comparison"]])
    monkeypatch.setattr(mutate, "TEST_SECONDS", 5)
    monkeypatch.setattr(mutate, "LISTED", tmp_path / "mutants.txt")
    mutate.LISTED.write_text("")
    return mutate.LISTED


def test_each_file_of_tests_has_a_stage_or_no_subject() -> None:
    names = sorted(path.stem.removeprefix("test_") for path in ROOT.glob("tests/test_*.py"))
    assert sorted([*itertools.chain(*STAGES), *OF_NO_SUBJECT]) == names


def test_a_mutant_is_killed_survives_or_hangs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mutate, "mutants", lambda original: iter([UNCHANGED, OPEN, ENDLESS]))
    assert mutate.test(2, "") == 1
    printed = capfd.readouterr().out
    assert (
        f"survived {UNCHANGED.name}\n" in printed
        and OPEN.name not in printed
        and ENDLESS.name not in printed
    )
    counts = [line.split()[:2] for line in printed.splitlines()[-6:]]
    assert counts == [
        ["1", "killed"],
        ["1", "timed"],
        ["1", "survived,"],
        ["0", "are"],
        ["1", "are"],
        ["0", "entries"],
    ]


@pytest.mark.parametrize(
    ("found", "entry", "status"),
    [
        (UNCHANGED, UNCHANGED, 0),
        (OPEN, None, 0),
        (OPEN, OPEN, 1),  # a test kills it now
        (OPEN, UNCHANGED, 1),  # no such mutant any more
    ],
)
def test_a_survivor_must_be_listed_and_what_is_listed_must_survive(
    found: mutate.Mutant,
    entry: mutate.Mutant | None,
    status: int,
    aimed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mutate, "STAGES", [["comparison"]])
    monkeypatch.setattr(mutate, "mutants", lambda original: iter([found]))
    if entry:
        aimed.write_text(f"# A reason.\n\n{entry.name}\n")
    assert mutate.test(1, "") == status
    printed = capfd.readouterr().out
    assert ("out of date" in printed.splitlines()[0]) is bool(status)
    assert "survived @" not in printed  # what is listed is not worth a line


def test_a_run_needs_tests_that_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "authorizer.py"
    broken.write_text(OPEN.code)
    monkeypatch.setattr(mutate, "CHANGED", broken)
    with pytest.raises(ToolsError, match="the tests must pass before a mutant can fail them"):
        mutate.test(1, "")


def test_nothing_to_test_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutate, "STAGES", [["headers"]])
    monkeypatch.setattr(mutate, "mutants", lambda original: iter([OPEN]))
    with pytest.raises(ToolsError, match="no mutant's changed lines hold 'nowhere'"):
        mutate.test(1, "nowhere")


def test_an_interrupt_ends_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[str] = []
    judge = mutate.judge

    def noted(*arguments: Any) -> tuple[str, str]:
        result = judge(*arguments)
        outcomes.append(result[0])
        return result

    def interrupted(original: str) -> Iterator[mutate.Mutant]:
        yield ENDLESS
        while not mutate.RUNNING:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(mutate, "TEST_SECONDS", 600)
    # Which ends it as "timed out" if the interrupt does not.
    monkeypatch.setattr(mutate, "STAGE_SECONDS", 20)
    monkeypatch.setattr(mutate, "judge", noted)
    monkeypatch.setattr(mutate, "mutants", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mutate.test(1, "")
    assert outcomes == ["survived", "killed"] and not mutate.RUNNING


def test_the_list_gives_each_mutant_the_reason_above_it(aimed: Path) -> None:
    aimed.write_text(
        "# It is the\n# same.\n\n@ a\n- x\n+ y\n\n@ b\n+ z\n\n# Another.\n\n@ c\n- x\n"
    )
    assert mutate.listed() == {
        "@ a\n- x\n+ y": "It is the same.",
        "@ b\n+ z": "It is the same.",
        "@ c\n- x": "Another.",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("@ a\n- x\n", "neither a reason nor a mutant"),
        ("# Why.\n\n- x\n+ y\n", "neither a reason nor a mutant"),
        ("# Why.\n\n@ a\n- x\n\n@ a\n- x\n", "twice"),
    ],
)
def test_a_list_that_is_wrong_is_a_clear_error(text: str, problem: str, aimed: Path) -> None:
    aimed.write_text(text)
    with pytest.raises(ToolsError, match=problem):
        mutate.listed()


def test_every_entry_of_the_list_is_of_lines_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cheap half of what a whole run finds."""
    monkeypatch.setattr(mutate, "LISTED", ROOT / "scripts" / "lab" / "mutants.txt")
    lines = {line.strip() for line in ORIGINAL.splitlines()}
    entries = mutate.listed()
    assert entries
    for entry in entries:
        for line in entry.splitlines():
            assert not line.startswith("- ") or line[2:] in lines, entry
