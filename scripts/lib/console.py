# SPDX-License-Identifier: MIT
"""What the scripts print with: colours only on a terminal, and a progress line only there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}


def colour(name: str, text: str) -> str:
    """``text`` in that colour if standard output is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{_COLOURS[name]}m{text}\033[0m"


def progress(text: str) -> None:
    """Show ``text`` in place of the last progress line, on standard error.

    "" clears it. Nothing without a terminal.
    """
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
