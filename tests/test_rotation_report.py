# SPDX-License-Identifier: MIT
"""The report on rotations tells the port from the authorizer, and its picture can be read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

import rotation_report
from lib.console import ROOT
from rotation_report import FAINT, INK, PAPER, Result

SCRIPT = Path(rotation_report.__file__)
SHOWN = 830  # pixels: the width of a README's pictures on GitHub
PICTURE = ElementTree.parse(ROOT / ".github" / "rotation.svg").getroot()
SVG = "{http://www.w3.org/2000/svg}"
LEGEND = next(it for it in PICTURE.iter(f"{SVG}g") if it.get("id") == "legend")
TEXTS = list(PICTURE.iter(f"{SVG}text"))


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What the command prints."""
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


# The table


def test_the_report_tells_the_port_from_the_authorizer() -> None:
    refused = dict.fromkeys(rotation_report.PAIRS, 0)
    for seed in range(4):
        for pair, result in zip(rotation_report.PAIRS, rotation_report.compare(seed)):
            refused[pair] += result.refused
    long, short, _, _, own = rotation_report.POLICIES
    assert refused["at once", long] > 0
    assert refused["at once", short] > 0
    assert refused["at once", own] == refused["rotator.py", own] == 0


def test_the_table_is_aligned_and_fits_a_terminal() -> None:
    done = report("--rotations", "2")
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert (done.returncode, done.stderr) == (0, "")
    assert len(lines) == 2 + len(rotation_report.PAIRS)
    places = {tuple(match.start() for match in re.finditer(r"\|", line)) for line in lines}
    assert len(places) == 1
    assert len(lines[0]) <= 80


def test_on_a_terminal_the_simulation_shows_its_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    results = rotation_report.simulate(2, 1)
    assert [len(of_one_pair) for of_one_pair in results] == [2] * len(rotation_report.PAIRS)
    shown = capsys.readouterr().err.split("\r\033[K")
    assert shown == ["", "0 of 2 rotations", "1 of 2 rotations", "2 of 2 rotations", ""]


@pytest.mark.parametrize("refusing", range(len(rotation_report.PAIRS)))
def test_only_a_refusal_by_the_authorizer_as_its_template_sets_it_fails(
    monkeypatch: pytest.MonkeyPatch, refusing: int
) -> None:
    results = [
        [Result(0, 0.0, 900.0, 4), Result(it == refusing, 0, 0, 4)]
        for it in range(len(rotation_report.PAIRS))
    ]
    monkeypatch.setattr(rotation_report, "simulate", lambda rotations, seed: results)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    if rotation_report.PAIRS[refusing][1] != rotation_report.POLICIES[-1]:
        rotation_report.main()
    else:
        with pytest.raises(SystemExit, match="refused a live key"):
            rotation_report.main()


def test_an_outage_lasts_from_its_first_refusal_to_the_next_allow_of_a_live_key() -> None:
    run = rotation_report.Run(rotation_report.PICTURED, "at once", rotation_report.POLICIES[0])
    run.world.until(run.zero + 60.0)
    old, new = rotation_report.OLD, rotation_report.NEW
    for at, key, outcome in (
        (1.0, old, "allow"),
        (2.0, old, "refuse"),
        (3.0, "wrong-key-one", "refuse"),
        (4.0, new, "error"),
        (5.0, new, "refuse"),
        (7.0, new, "allow"),
        (8.0, new, "refuse"),
        (10.0, new, "error"),
        (11.0, "probe", "allow"),
        (12.0, "probe", "refuse"),
    ):
        run.seen.append(rotation_report.Seen(at, key, outcome))
    assert run.result() == Result(3, 5.0, 11.0 - run.moved(), 0)


def test_an_error_is_one_line(tmp_path: Path) -> None:
    for arguments, status in (
        (["--rotations", "0"], 2),
        (["--svg", str(tmp_path / "no" / "picture.svg")], 1),
    ):
        done = report(*arguments)
        assert done.returncode == status
        assert done.stderr.splitlines()[-1].startswith("rotation_report.py: ")
        assert "Traceback" not in done.stderr


# The picture


def test_the_picture_is_the_one_that_the_report_draws(tmp_path: Path) -> None:
    drawn = tmp_path / "rotation.svg"
    assert report("--svg", str(drawn)).returncode == 0
    assert drawn.read_bytes() == (ROOT / ".github" / "rotation.svg").read_bytes()
    assert max(map(len, drawn.read_text("utf-8").splitlines())) <= 100


def test_no_text_is_smaller_than_11_pixels_where_github_shows_it() -> None:
    scale = SHOWN / float(PICTURE.attrib["viewBox"].split()[2])
    usual = PICTURE.attrib["font-size"]
    sizes = {text.get("font-size", usual) for text in TEXTS}
    assert min(float(size) * min(scale, 1.0) for size in sizes) >= 11


def words(element: ElementTree.Element) -> str:
    """What an element says. A new line counts as a space."""
    return " ".join((element.text or "").split())


def test_the_picture_says_in_words_what_it_shows() -> None:
    names = {it.get("id"): words(it) for it in PICTURE if it.tag in (f"{SVG}title", f"{SVG}desc")}
    assert [bool(names[name]) for name in PICTURE.attrib["aria-labelledby"].split()] == [True] * 2
    texts = [words(text) for text in TEXTS]
    port, own = (
        next(number for number, text in enumerate(texts) if text.startswith(begin))
        for begin in ("Straightforward port", "This authorizer")
    )
    assert [text.split(":")[0] for text in texts[port + 1 : own] if ": " in text] == ["outage"]
    noted = [text.split(":")[0] for text in texts[own + 1 :] if ": " in text]
    assert noted == ["deliberate grace"]


def test_a_frame_holds_what_the_note_beside_it_says() -> None:
    marks = {
        (it.get("stroke"), float(place[1])): it.attrib["d"].count("M")
        for it in PICTURE.iter(f"{SVG}path")
        if (place := re.match(r"M[\d.]+,([\d.]+)[mh]", it.attrib["d"]))
    }
    frames = [it for it in PICTURE.iter(f"{SVG}rect") if it.get("fill") == "none"]
    found = []
    for frame in frames:
        middle = float(frame.attrib["y"]) + float(frame.attrib["height"]) / 2
        note = next(
            words(it)
            for it in TEXTS
            if it.get("font-weight") and abs(float(it.attrib["y"]) - middle) < 6
        )
        found.append((note.split(":")[0], frame.get("stroke")))
        if number := re.search(r"outage: (\d+) ", note):
            assert marks[frame.get("stroke"), middle] == int(number[1]) > 0
    colours = [rotation_report.MARKS[outcome][0] for outcome in ("refuse", "allow")]
    assert found == list(zip(["outage", "deliberate grace"], colours))


def colours(element: ElementTree.Element) -> set[str]:
    """The colours of an element and of what it holds."""
    found = (it.get(name) for it in element.iter() for name in ("fill", "stroke"))
    return {colour for colour in found if colour and colour != "none"}


def test_every_colour_stands_in_the_legend() -> None:
    assert colours(PICTURE) == colours(LEGEND) | {INK, FAINT, PAPER}
    shapes = [it for it in LEGEND if it.tag != f"{SVG}text"]
    names = [words(it) for it in LEGEND if it.tag == f"{SVG}text"]
    assert len(shapes) == len(names) == len(set(names))


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it, of "#rrggbb"."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722)))


def contrast(one: str, other: str) -> float:
    """The ratio of WCAG 2, from 1 to 21."""
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_everything_can_be_told_from_the_ground_in_any_theme() -> None:
    """The ground is the picture's own, so that GitHub's theme does not matter."""
    ground = next(PICTURE.iter(f"{SVG}rect"))
    assert [ground.get(name) for name in ("width", "height", "fill")] == ["100%", "100%", PAPER]
    assert [text.get("fill") for text in TEXTS] == [None] * len(TEXTS)
    assert PICTURE.get("fill") == INK
    tint = rotation_report.BARS["failure"]["fill"]
    for behind in (PAPER, tint):
        assert contrast(INK, behind) >= 4.5
        for colour in colours(LEGEND) - {tint}:
            assert contrast(colour, behind) >= 3
