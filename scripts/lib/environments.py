# SPDX-License-Identifier: MIT
"""Virtual environments with locked tools, so that every script is one command on a machine that
has only Python.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.console import ROOT


class ToolsError(Exception):
    """Something that keeps the tools from being installed; the text says what to do."""


def require_writable(folder: Path) -> None:
    """Make a folder if it is missing, and see that files can be made in it. Raises ToolsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ToolsError(f"the folder {folder} cannot be written to: {error.strerror}") from None


def environment(python: str, group: str = "dev") -> Path:
    """The interpreter of a virtual environment with scripts/locks/GROUP.txt; made, or made anew,
    where that is due.

    ``python`` is the interpreter to make it with. Raises ToolsError.
    """
    version = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    lock = ROOT / "scripts" / "locks" / f"{group}.txt"
    folder = ROOT / ".venv" / (version if group == "dev" else f"{group}-{version}")
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "lock.sha256"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and interpreter.exists():
        return interpreter
    require_writable(folder if folder.is_dir() else folder.parent)
    what, where = lock.relative_to(ROOT), folder.relative_to(ROOT)
    print(f"Installing {what} for Python {version} into {where} ...", file=sys.stderr)
    try:
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
    except subprocess.CalledProcessError:
        why = "its venv or ensurepip fails (Debian: apt install python3-venv)"
        raise ToolsError(f"{python} cannot make a virtual environment: {why}") from None
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([*pip, "--require-hashes", "--requirement", str(lock)], check=True)
    except subprocess.CalledProcessError:
        raise ToolsError(
            f"{lock.relative_to(ROOT)} could not be installed; is a Python package index reachable?"
        ) from None
    stamp.write_text(wanted)
    return interpreter


def run_inside(group: str = "dev") -> int | None:
    """Run this command in that environment: its exit status. None if it runs there already.

    Raises ToolsError.
    """
    python = environment(sys.executable, group)
    if Path(sys.prefix).resolve() == python.parent.parent.resolve():
        return None
    return subprocess.run([str(python), *sys.argv]).returncode
