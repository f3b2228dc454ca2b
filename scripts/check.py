#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run every check, as CI does. Needs nothing but Python 3.10 or newer: the tools go into .venv/ by themselves.

Their versions are locked by hash in scripts/lock-dev.txt; a second run uses what the first one installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

from console import ROOT, colour

LOCK = ROOT / "scripts" / "lock-dev.txt"


class CheckError(Exception):
    """Something that keeps the checks from running at all; the text says what to do."""


def environment(python: str) -> Path:
    """The interpreter of a virtual environment with the locked tools; made, or made anew, where that is due."""
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=True
    ).stdout.strip()
    folder = ROOT / ".venv" / version
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "lock.sha256"
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and interpreter.exists():
        return interpreter
    print(f"Installing the development tools for Python {version} into {folder.relative_to(ROOT)} ...", flush=True)
    if python == sys.executable:
        venv.create(folder, with_pip=True, clear=True)
    else:
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([*pip, "--require-hashes", "--requirement", str(LOCK)], check=True)
    except subprocess.CalledProcessError:
        raise CheckError("the tools could not be installed; is a Python package index reachable?") from None
    stamp.write_text(wanted)
    return interpreter


def steps(python: str) -> dict[str, list[list[str]]]:
    """The checks by name: the commands of each, run one after the other."""
    coverage = [python, "-m", "coverage"]
    return {
        "mypy --strict": [[python, "-m", "mypy"]],
        "bandit": [
            [python, "-m", "bandit", "--quiet", "authorizer.py"],  # without the exceptions in .bandit
            [python, "-m", "bandit", "--quiet", "--recursive", "."],
        ],
        "pytest": [[*coverage, "run", "-m", "pytest", "-q"]],
        "branch coverage": [[*coverage, "report"]],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    os.chdir(ROOT)
    python = str(environment(sys.executable))
    results: list[tuple[str, bool, float]] = []
    for name, commands in steps(python).items():
        print(colour("bold", f"\n== {name}"), flush=True)
        started = time.monotonic()
        good = all(subprocess.run(command).returncode == 0 for command in commands)
        results.append((name, good, time.monotonic() - started))
    print(colour("bold", "\n== Summary"))
    for name, good, seconds in results:
        print(f"{colour('green', 'ok    ') if good else colour('red', 'FAILED')}  {name:<20} {seconds:6.1f} s")
    return 0 if all(good for _, good, _ in results) else 1


if __name__ == "__main__":
    if sys.version_info < (3, 10):
        sys.exit("check.py needs Python 3.10 or newer")
    try:
        sys.exit(main())
    except (CheckError, OSError) as error:
        sys.exit(f"check.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
