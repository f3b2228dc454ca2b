# SPDX-License-Identifier: MIT
"""The scripts that measure: that they run, measure what they say and judge it rightly.

No duration is asserted.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bench
import timing_leak
from lib.console import ROOT

pytestmark = pytest.mark.long


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A script's end: its output and exit status."""
    script, *rest = arguments
    command = [sys.executable, str(ROOT / "scripts" / "lab" / script), *rest]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("script", ["bench.py", "timing_leak.py"])
def test_help_tells_the_exit_statuses(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0 and "Exit status" in done.stdout and "--json" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["bench.py", "--runs", "0"], ["timing_leak.py", "--samples", "1"]]
)
def test_a_number_too_small_is_one_clear_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (
        done.returncode == 2
        and "must be at least" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_bench_without_peers_says_what_it_left_out_and_counts_calls() -> None:
    done = run("bench.py", "--no-peers", "--json", "--runs", "2", "--requests", "20")
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["left_out"] == dict.fromkeys(bench.PEERS, "--no-peers was given")
    results = report["results"]
    assert list(results) == list(bench.SUBJECTS)
    for figures in results.values():
        for phase in ("allow", "refuse", "pending"):
            assert 0 < figures[f"{phase}_p50_ms"]["median"] <= figures[f"{phase}_p99_ms"]["max"]
        assert 0 < figures["import_ms"]["median"] < figures["cold_ms"]["max"]
    calls = {name: figures["burst_calls"]["median"] for name, figures in results.items()}
    # Two labels for each of 1,000.
    assert calls[bench.FLOOR] == calls[bench.LEAST] == 0 and calls[bench.NAIVE] == 2000
    assert results[bench.OWN]["scan_calls"]["runs"] == [
        7,
        7,
    ]  # one read, and three looks over two labels
    assert all(calls > 0 and calls % 7 == 0 for calls in results[bench.OWN]["burst_calls"]["runs"])
    own, naive, floor = [
        [figures[f"calls_{kind}"]["runs"] for kind in ("cold", "refresh", "pending", "wrong")]
        for figures in (results[bench.OWN], results[bench.NAIVE], results[bench.FLOOR])
    ]
    assert own == [[1, 1], [1, 1], [2, 2], [7, 7]]
    assert naive == [[1, 1], [1, 1], [2, 2], [2, 2]]
    assert floor == [[0, 0]] * 4
    assert report["date"]
    assert report["python"] == platform.python_version()
    assert (report["commit"], report["machine"]) == (bench.commit(), bench.machine())
    missed = [row for row in report["targets"] if row["met"] is False]
    assert done.returncode == (1 if missed else 0)


def test_the_machine_is_named_by_its_processor_where_that_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "CPU_INFO", tmp_path / "cpuinfo")
    plain = bench.machine()
    assert plain == f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    bench.CPU_INFO.write_text("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: B\n")
    assert bench.machine() == f"{plain}, A CPU @ 2 GHz"


def test_the_commit_is_the_checkouts_own_and_changes_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "around" / "checkout"
    checkout.mkdir(parents=True)
    monkeypatch.setattr(bench, "ROOT", checkout)

    def git(folder: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def commit(folder: Path) -> str:
        git(folder, "init", "--quiet")
        git(folder, "commit", "--quiet", "--allow-empty", "--no-gpg-sign", "--message", "All")
        return git(folder, "rev-parse", "HEAD")

    commit(checkout.parent)
    assert bench.commit() == "unknown"
    name = commit(checkout)
    assert bench.commit() == name
    (checkout / "file").touch()
    assert bench.commit() == f"{name}+changes"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bench.commit() == "unknown"


def test_a_subject_that_cannot_be_imported_gives_its_reason(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_bytes((bench.MEASURED / "worker.py").read_bytes())
    measuring = bench.Bench(Path(sys.executable), tmp_path, 1)
    try:
        with pytest.raises(RuntimeError, match="No module named 'not_installed'"):
            measuring.cold("not_installed", "extension")
    finally:
        measuring.close()


def test_a_wrong_answer_is_not_measured() -> None:
    with pytest.raises(RuntimeError, match="it answered refuse in place of allow"):
        bench.right({"times_ms": [1.0], "outcomes": {"allow": 5, "refuse": 1}}, {"allow"})


def figures(**values: float) -> bench.Summary:
    """Results of one subject, the same in each run."""
    usual = {
        "allow_p50_ms": 1.0,
        "refuse_p50_ms": 1.0,
        "cold_ms": 10.0,
        "slow_cold_ms": 30.0,
        "memory_bytes": 1e6,
        "calls_cold": 1.0,
        "calls_refresh": 1.0,
        "calls_pending": 2.0,
        "calls_wrong": 10.0,
        "burst_calls": 4.0,
        "scan_calls": 4.0,
    }
    measured = {**usual, **values}.items()
    return {
        name: {"median": value, "min": value, "max": value, "runs": [value]}
        for name, value in measured
    }


NAIVE = figures(cold_ms=20.0, slow_cold_ms=50.0, memory_bytes=2e6)


@pytest.mark.parametrize(
    ("own", "missed"),
    [
        ({}, ""),
        ({"allow_p50_ms": 1.46}, "warm allow p50 / floor"),
        ({"refuse_p50_ms": 1.46}, "warm refusal p50 / floor"),
        ({"cold_ms": 11.1}, "import + first answer / naive client"),
        ({"slow_cold_ms": 35.1}, "import + first answer, 15 ms a call / naive client"),
        ({"memory_bytes": 1.31e6}, "memory added / naive client"),
        ({"calls_cold": 2.0}, "calls for the current key, cold"),
        ({"calls_refresh": 2.0}, "calls for the current key, at a refresh"),
        ({"calls_pending": 3.0}, "calls for the pending key"),
        ({"calls_wrong": 11.0}, "calls for a wrong key"),
        ({"burst_calls": 12.0}, "scans for 1,000 wrong keys in one second, the most in a run"),
    ],
)
def test_a_target_is_missed_beyond_its_limit(own: dict[str, float], missed: str) -> None:
    peers = {name: figures(cold_ms=60.0) for name in bench.PEERS}
    results = {bench.OWN: figures(**own), bench.FLOOR: figures(), bench.NAIVE: NAIVE, **peers}
    rows = bench.targets(results)
    assert len(rows) == 11
    assert [row["target"] for row in rows if row["met"] is False] == ([missed] if missed else [])
    assert all(row["met"] is not None for row in rows)


def test_a_boto3_peer_that_starts_too_fast_is_a_target_missed() -> None:
    peers = {name: figures(cold_ms=49.0) for name in bench.PEERS}
    results = {bench.OWN: figures(), bench.FLOOR: figures(), bench.NAIVE: NAIVE, **peers}
    missed = [row["target"] for row in bench.targets(results) if row["met"] is False]
    assert missed == ["import + first answer / fastest boto3 peer"]


def test_a_target_about_absent_peers_is_neither_met_nor_missed() -> None:
    rows = bench.targets({bench.OWN: figures(), bench.FLOOR: figures(), bench.NAIVE: NAIVE})
    unknown = [row["target"] for row in rows if row["met"] is None]
    assert unknown == ["import + first answer / fastest boto3 peer"]


def test_timing_leak_runs_beside_a_control_that_shares_all_but_the_last_character() -> None:
    done = run("timing_leak.py", "--json", "--samples", "300")
    assert done.returncode in (0, 1, 2), done.stderr
    report = json.loads(done.stdout)
    [control] = [row for row in report["results"] if row["meaning"] == "control"]
    assert control["what"].startswith("control: ==")
    assert control["classes"] == ["no character right", "all but the last right"]
    judged = [
        (row["what"], tuple(row["classes"]))
        for row in report["results"]
        if row["meaning"] == "leak"
    ]
    # For the comparison and for the refusal: three shares, two lengths.
    assert len(judged) == len(set(judged)) == 10
    assert done.returncode == (
        2 if not report["control_caught"] else 1 if report["leak_seen"] else 0
    )


def row(meaning: str, t: float) -> dict[str, Any]:
    return {"meaning": meaning, "t": t}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([row("control", -4.6), row("leak", 4.4)], (True, False)),
        ([row("control", 4.4), row("leak", 0.0)], (False, False)),
        ([row("control", 9.0), row("leak", 0.0), row("leak", -4.6)], (True, True)),
        ([row("control", 9.0), row("the key's own length", 50.0)], (True, False)),
    ],
)
def test_the_verdict_goes_by_the_threshold_in_both_directions(
    results: list[Any], expected: tuple[bool, bool]
) -> None:
    assert timing_leak.verdict(results) == expected


def test_welch_gives_the_t_worked_out_by_hand() -> None:
    # Means 2 and 4, variances 1 and 4: (2 - 4) / sqrt(1/3 + 4/3).
    assert timing_leak.welch([1, 2, 3], [2, 4, 6]) == pytest.approx(-2 / (5 / 3) ** 0.5)


def test_a_difference_under_noise_is_found_by_cropping() -> None:
    noise = [1_000_000] * 50
    fast = [100, 101, 102, 103] * 100 + noise
    slow = [102, 103, 104, 105] * 100 + noise
    assert abs(timing_leak.welch(fast, slow)) < timing_leak.THRESHOLD
    assert timing_leak.greatest_t(fast, slow) < -timing_leak.THRESHOLD


@given(secret=st.text(timing_leak.ALPHABET, min_size=1, max_size=40), data=st.data())
def test_a_wrong_key_is_right_up_to_where_it_should_be(secret: str, data: st.DataObject) -> None:
    shared = data.draw(st.integers(0, len(secret) - 1))
    key = timing_leak.wrong_key(secret, shared)
    assert len(key) == len(secret)
    assert [a == b for a, b in zip(key, secret)] == [True] * shared + [False] * (
        len(secret) - shared
    )
