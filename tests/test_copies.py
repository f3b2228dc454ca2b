# SPDX-License-Identifier: MIT
"""The fast half of the tests holds for each copy that a release hands out: the text inlined in the
template, the wheel's module, and the zip's.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mutate
import package
from lib.console import ROOT
from lib.copies import inlined_code, parse_template

pytestmark = pytest.mark.long


def unpacked(folder: Path) -> list[Path]:
    """The copies, taken out of what package.py makes, under the names that they run by."""
    files = package.build()
    (wheel,) = [name for name in files if name.endswith(".whl")]
    (code,) = inlined_code(parse_template(files["template.yaml"].decode())).values()
    inlined = folder / "template" / "index.py"  # CloudFormation's name for it
    inlined.parent.mkdir()
    inlined.write_text(code)
    members = {wheel: "secure_authorizer/authorizer.py", "authorizer.zip": "authorizer.py"}
    paths = []
    for archive, member in members.items():
        with zipfile.ZipFile(io.BytesIO(files[archive])) as opened:
            paths.append(Path(opened.extract(member, folder / archive)))
    return [inlined, *paths]


def run_tests(copy: Path) -> subprocess.CompletedProcess[str]:
    """The fast half of the tests, aimed at that copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(f"tests/test_{name}.py" for name in mutate.FAST)],
        cwd=ROOT,
        env={**os.environ, "AUTHORIZER_UNDER_TEST": str(copy)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def test_each_copy_of_a_release_passes_the_fast_half_of_the_tests(tmp_path: Path) -> None:
    copies = unpacked(tmp_path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for copy, done in zip(copies, pool.map(run_tests, copies)):
            assert done.returncode == 0, f"{copy}:\n{done.stdout[-3000:]}"
