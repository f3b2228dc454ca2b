#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run every check, as CI does. Needs nothing but Python 3.11 or newer: the tools go into .venv/ by
themselves.

Their versions are locked by hash in scripts/locks/dev.txt; a second run uses what the first one
installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from lib.console import ROOT, colour, progress
from lib.environments import ToolsError, environment, require_writable

VERSIONS = ["3.11", "3.12", "3.13", "3.14"]  # those that Lambda offers, oldest first
AT_ONCE = 2  # jobs
WORKFLOWS = ".github/workflows"
ROTATOR = "scripts/deploy/rotator.py"
# A Go program: Go's checksum database vouches for the version's source.
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
GO_SECONDS = 120  # to download and build it; it takes some ten


class Step(NamedTuple):
    """One check: its name and its commands. Each command must succeed."""

    name: str
    commands: list[list[str]]


Job = list[Step]  # steps that run one after the other; different jobs may run at once


class Result(NamedTuple):
    name: str
    good: bool
    seconds: float
    output: str


def version_of(python: str) -> tuple[int, int, int, str, int] | None:
    """An interpreter's version.

    None if it does not run, like pyenv's stand-ins, or cannot make environments.
    """
    script = "import sys, ensurepip, venv; print(*sys.version_info)"
    try:
        run = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if run.returncode != 0:
        return None
    major, minor, micro, level, serial = run.stdout.split()
    return int(major), int(minor), int(micro), level, int(serial)


def candidates() -> Iterator[str]:
    """Where interpreters may be: this one, PATH, pyenv."""
    yield sys.executable
    for folder in os.get_exec_path():
        for version in VERSIONS:
            path = shutil.which(f"python{version}", path=folder)
            if path:
                yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in VERSIONS:
        yield from map(str, sorted(pyenv.glob(f"versions/{version}*/bin/python")))


def interpreters() -> dict[str, str]:
    """The interpreter with the newest patch release of each version, the oldest version first."""
    newest: dict[str, tuple[tuple[int, int, int, str, int], str]] = {}
    for python in candidates():
        release = version_of(python)
        if release:
            version = f"{release[0]}.{release[1]}"
            if version not in newest or release > newest[version][0]:
                newest[version] = release, python
    return {version: newest[version][1] for version in VERSIONS if version in newest}


def actionlint() -> Path:
    """actionlint, installed into .venv/ by Go. Raises ToolsError where that cannot be had."""
    folder = ROOT / ".venv" / ACTIONLINT.split("/")[-1]
    program = folder / ("actionlint.exe" if os.name == "nt" else "actionlint")
    if program.exists():
        return program
    go = shutil.which("go")
    if not go:
        raise ToolsError("it is built by Go, and there is no go on PATH")
    progress("Installing actionlint ...")
    try:
        done = subprocess.run(
            [go, "install", ACTIONLINT],
            env={**os.environ, "GOBIN": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GO_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ToolsError(f"go install takes more than {GO_SECONDS} s") from None
    finally:
        progress("")
    if not program.exists():
        raise ToolsError((done.stderr.strip() or "go install made no program").splitlines()[-1])
    return program


def once(python: str, rotator: str, linter: Path | None) -> list[Job]:
    """The checks that one interpreter does for all.

    ``rotator`` is its environment with boto3; ``linter`` is actionlint, if it can be had.
    """
    workflows = sorted(map(str, Path(WORKFLOWS).glob("*.yml")))
    return [
        [
            Step(
                "rotation function: tests",
                [[rotator, "-m", "pytest", "-q", "--noconftest", "tests/test_rotator.py"]],
            )
        ],
        [
            Step(  # each finding counts, and no comment hides one; without what GitHub would tell
                "zizmor",
                [
                    [
                        str(Path(python).with_name("zizmor")),
                        *("--offline", "--persona=auditor", "--no-ignores", "--strict-collection"),
                        *("--quiet", "--no-progress", WORKFLOWS),
                    ]
                ],
            )
        ],
        # Without shellcheck and pyflakes, which some machines have, so that all find the same.
        *(
            [[Step("actionlint", [[str(linter), "-shellcheck=", "-pyflakes=", *workflows]])]]
            if linter
            else []
        ),
        *(
            [
                Step(
                    f"mypy --strict for {version}",
                    [[python, "-m", "mypy", "--python-version", version]],
                )
            ]
            for version in (VERSIONS[0], VERSIONS[-1])
        ),
        [
            Step(
                "ruff",
                [
                    [python, "-m", "ruff", "format", "--check", "."],
                    [python, "-m", "ruff", "check", "."],
                ],
            )
        ],
        [
            Step(
                "bandit",
                [
                    # Without the exceptions in .bandit.
                    [python, "-m", "bandit", "--quiet", "authorizer.py", ROTATOR],
                    [python, "-m", "bandit", "--quiet", "--recursive", "."],
                ],
            )
        ],
        [
            Step(  # no ignored rule; the tests judge sam.yaml
                "cfn-lint",
                [
                    [python, "scripts/package.py"],
                    [
                        str(Path(python).with_name("cfn-lint")),
                        *("dist/template.yaml", "dist/rotation.yaml"),
                    ],
                ],
            )
        ],
    ]


def each(version: str, python: str, long: bool) -> Job:
    """The checks that every interpreter has to pass.

    ``long`` adds the tests that are marked ``long``.
    """
    coverage = [python, "-m", "coverage"]
    data = f"--data-file=.coverage-{version}"
    selection = [] if long else ["-m", "not long"]
    return [
        Step(
            f"Python {version}: tests" + ("" if long else ", without the long ones"),
            [[*coverage, "run", data, "-m", "pytest", "-q", *selection]],
        ),
        Step(f"Python {version}: branch coverage", [[*coverage, "report", data]]),
    ]


def run(job: Job) -> list[Result]:
    """Run the steps of a job, each even if one before it failed."""
    results: list[Result] = []
    for step in job:
        started = time.monotonic()
        good, output = True, ""
        for command in step.commands:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            good = good and done.returncode == 0
            output += done.stdout.decode(errors="replace")
        results.append(Result(step.name, good, time.monotonic() - started, output))
    return results


def run_all(jobs: list[Job]) -> list[Result]:
    """Run the jobs, starting them in their order.

    Show what each one printed when it ends. The results have the order of the jobs.
    """
    started = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(run, job): job for job in jobs}
        todo = set(running)
        try:
            while todo:
                names = [job[0].name for future, job in running.items() if future.running()]
                passed = f"{time.monotonic() - started:4.0f} s"
                progress(f"{passed}, {len(todo)} to go. Now: {'; '.join(names)}")
                done, todo = wait(todo, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    progress("")
                    for result in future.result():
                        print(
                            colour("bold", f"\n== {result.name}") + f"\n{result.output}",
                            end="",
                            flush=True,
                        )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            progress("")
    return [result for future in running for result in future.result()]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--all-pythons",
        action="store_true",
        help=f"test under every Python of {VERSIONS[0]} to {VERSIONS[-1]} on PATH or in pyenv, "
        "not just this one; only the newest runs the long tests, not of authorizer.py alone",
    )
    arguments = parser.parse_args()
    require_writable(ROOT)
    os.chdir(ROOT)
    if arguments.all_pythons:
        found = interpreters()
        if not found:
            raise ToolsError(
                f"no Python of {VERSIONS[0]} to {VERSIONS[-1]} found on PATH or in pyenv"
            )
        absent = [version for version in VERSIONS if version not in found]
    else:
        found, absent = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}, []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pythons = dict(zip(found, map(str, pool.map(environment, found.values()))))
    linter = None
    try:
        linter = actionlint()
    except (ToolsError, OSError) as error:
        reason = str(error)
    newest = list(pythons)[-1]
    rotator = str(environment(found[newest], "rotator"))  # made once, not for each Python
    tests = [each(version, python, long=version == newest) for version, python in pythons.items()]
    started = time.monotonic()
    # The longest job first, so that it ends soon.
    results = run_all([*reversed(tests), *once(pythons[newest], rotator, linter)])
    print(colour("bold", f"\n== Summary, after {time.monotonic() - started:.0f} s"))
    for result in results:
        mark = colour("green", "ok    ") if result.good else colour("red", "FAILED")
        print(f"{mark}  {result.name:<52} {result.seconds:6.1f} s")
    for version in absent:
        why = "none on PATH or in pyenv that can make environments, so not tested"
        print(f"{colour('yellow', 'absent')}  Python {version}: {why}")
    if not linter:
        print(f"{colour('yellow', 'skipped')} actionlint: {reason}")
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("check.py needs Python 3.11 or newer")
    try:
        sys.exit(main())
    except (ToolsError, OSError) as error:
        sys.exit(f"check.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
