# SPDX-License-Identifier: MIT
"""What scripts/package.py makes: the same bytes everywhere, whole or not at all."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import package
from lib.console import ROOT
from lib.copies import MAX_DIRECT_BYTES, CopyError, parse_template, source, version_of, write_all

CODE = source("authorizer.py")
VERSION = version_of(CODE.decode())
STEM = f"amazon_api_gateway_secure_authorizer-{VERSION}"


@pytest.fixture(scope="module")
def built() -> dict[str, bytes]:
    return package.build()


def checkout(folder: Path) -> Path:
    """A second checkout with what packaging needs; the tools are the first one's."""
    shutil.copytree(
        ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in package.WHEEL_SOURCES:
        shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


def run(
    folder: Path, *arguments: str, script: str = "package.py", **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "scripts" / script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **env}, cwd="/", timeout=120
    )


def installed(wheel: Path) -> str:
    """The interpreter of a fresh environment that has nothing but that wheel."""
    folder = wheel.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-index", str(wheel)], check=True, timeout=120)
    return python


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_two_unlike_checkouts_give_the_same_bytes(tmp_path: Path, built: dict[str, bytes]) -> None:
    one, other = checkout(tmp_path / "one"), checkout(tmp_path / "the other one")
    for name in {*package.WHEEL_SOURCES, *itertools.chain(*package.TEMPLATES)}:
        path = other / name
        # As git may check out on Windows.
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        path.chmod(0o600)
        os.utime(path, (1, 1_000_000_000))
    (other / "README.txt").write_text("no part of the commit\n")
    (other / "stray.py").write_text("no part of the commit\n")
    (other / "elsewhere").mkdir()
    (other / "elsewhere" / "hatchling.py").write_text("raise SystemExit('another hatchling')\n")
    unlike = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "1234567890"}
    done = [run(one), run(other, **unlike, PYTHONHASHSEED="7", PYTHONPATH=str(other / "elsewhere"))]
    assert [result.returncode for result in done] == [0, 0], done[0].stderr + done[1].stderr
    assert contents(one / "dist") == contents(other / "dist") == built


@pytest.mark.parametrize("name", ["check.py", "package.py"])
def test_a_folder_for_the_tools_that_cannot_be_written_to_is_named(
    tmp_path: Path, name: str
) -> None:
    folder = checkout(tmp_path / "checkout") / ".venv"
    folder.unlink()
    folder.write_text("a file, which even root cannot write files into\n")
    done = run(tmp_path / "checkout", script=name)
    assert done.returncode == 1
    reason = f"the folder {folder} cannot be written to: File exists"
    assert done.stderr == f"{name}: {reason}\n"


def test_a_folder_for_the_release_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(ROOT, "--no-wheel", "--output", str(tmp_path / "file" / "dist"))
    assert done.returncode == 1
    reason = f"the folder {tmp_path / 'file' / 'dist'} cannot be written to: Not a directory"
    assert done.stderr == f"package.py: {reason}\n"


def test_without_the_wheel_it_needs_nothing_but_python(
    built: dict[str, bytes], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-S",
        str(ROOT / "scripts" / "package.py"),
        "--no-wheel",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "authorizer.zip",
        "template.yaml",
        "rotation.yaml",
        "SHA256SUMS",
    }
    for name in ("authorizer.zip", "template.yaml", "rotation.yaml"):
        assert (tmp_path / name).read_bytes() == built[name]


@pytest.mark.parametrize("minor", range(11, 15))
def test_every_python_makes_the_same_zip(
    minor: int, built: dict[str, bytes], tmp_path: Path
) -> None:
    python = shutil.which(f"python3.{minor}")
    if not python or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"this machine has no python3.{minor}")
    code = (
        "import package as p, sys; "
        "sys.stdout.buffer.write(p.stored_zip({'authorizer.py': sys.stdin.buffer.read()}))"
    )
    done = subprocess.run(
        [python, "-c", code], input=CODE, stdout=subprocess.PIPE, cwd=ROOT / "scripts", check=True
    )
    assert done.stdout == built["authorizer.zip"]


def test_the_zip_holds_one_readable_file_that_lambda_can_import(
    built: dict[str, bytes], tmp_path: Path
) -> None:
    with zipfile.ZipFile(io.BytesIO(built["authorizer.zip"])) as archive:
        (info,) = archive.infolist()
        assert (info.filename, info.external_attr >> 16, info.compress_type) == (
            "authorizer.py",
            0o100644,
            0,
        )
        assert archive.read(info) == CODE
    path = tmp_path / "authorizer.zip"
    path.write_bytes(built["authorizer.zip"])
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; "
        "import authorizer; print(authorizer.__file__, authorizer.handler)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert str(path) in done.stdout


def test_the_wheel_installs_where_the_predecessors_users_have_it(
    built: dict[str, bytes], tmp_path: Path
) -> None:
    (name,) = [name for name in built if name.endswith(".whl")]
    assert name == f"{STEM}-py3-none-any.whl"
    (tmp_path / name).write_bytes(built[name])
    python = installed(tmp_path / name)
    code = "from secure_authorizer.authorizer import handler as it; print(it.__code__.co_filename)"
    done = subprocess.run([python, "-I", "-c", code], stdout=subprocess.PIPE, check=True)
    assert Path(done.stdout.decode().strip()).read_bytes() == CODE


def test_mypy_in_a_project_that_installed_the_wheel_sees_the_types(
    built: dict[str, bytes], tmp_path: Path
) -> None:
    wheel = tmp_path / f"{STEM}-py3-none-any.whl"
    wheel.write_bytes(built[wheel.name])
    python = installed(wheel)
    user = tmp_path / "user.py"
    user.write_text(
        "from secure_authorizer.authorizer import handler\n"
        "answer: dict[str, object] = handler({}, None)\n"
        'handler("an event alone")\n'
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*mypy, "--python-executable", python, user.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.startswith("user.py:3: error: Missing positional argument"), done.stdout
    assert "\nFound 1 error in 1 file" in done.stdout


def test_an_editable_installation_runs_the_checkout_as_it_is_now(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    hook = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    subprocess.run(  # what pip install -e . calls
        [sys.executable, "-c", hook, str(tmp_path)], cwd=folder, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    python = installed(wheel)
    code = "import secure_authorizer.authorizer as it; print(it.__version__)"
    for version in (VERSION, "1.0.0.changed"):
        text = CODE.decode().replace(f'__version__ = "{VERSION}"', f'__version__ = "{version}"')
        (folder / "authorizer.py").write_text(text)
        done = subprocess.run([python, "-I", "-c", code], stdout=subprocess.PIPE, check=True)
        assert done.stdout.decode().split() == [version]


def test_the_wheels_record_is_right(built: dict[str, bytes]) -> None:
    (name,) = [name for name in built if name.endswith(".whl")]
    with zipfile.ZipFile(io.BytesIO(built[name])) as archive:
        assert archive.testzip() is None
        record = f"{STEM}.dist-info/RECORD"
        rows = {
            path: (digest, size)
            for path, digest, size in csv.reader(io.StringIO(archive.read(record).decode()))
        }
        assert set(rows) == set(archive.namelist())
        for path, (digest, size) in rows.items():
            data = archive.read(path)
            encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert path == record or (digest, size) == (f"sha256={encoded}", str(len(data)))


def test_the_sums_are_of_all_files_and_are_printed_in_both_forms(
    tmp_path: Path, built: dict[str, bytes]
) -> None:
    done = run(ROOT, "--output", str(tmp_path / "new" / "folder"))
    assert done.returncode == 0, done.stderr
    files = contents(tmp_path / "new" / "folder")
    assert files == built
    sums = files["SHA256SUMS"].decode()
    listed = {name: digest for digest, name in (line.split("  ") for line in sums.splitlines())}
    assert set(listed) == set(files) - {"SHA256SUMS"}
    for name, digest in listed.items():
        hashed = hashlib.sha256(files[name])
        assert digest == hashed.hexdigest()
        assert f"{name} ({len(files[name])} bytes)\n  SHA-256 {digest}\n  base64  " in done.stdout
        assert base64.b64encode(hashed.digest()).decode() in done.stdout


@pytest.mark.parametrize("name", ["template.yaml", "rotation.yaml"])
def test_a_template_deploys_without_a_bucket(
    name: str, built: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    left = 51_200 - len(built[name])
    with capsys.disabled():
        print(f" [{name} has {left} bytes left] ", end="")
    assert left > 0


PLACE = "      @authorizer.py@\n"


def skeleton(place: str = PLACE) -> str:
    head = "Resources:\n  F:\n   Type: X\n   Properties:\n    Code:\n     ZipFile: |\n"
    return f"{head}{place}\nOutputs: {{}}\n"


@pytest.mark.parametrize(
    "code",
    [
        "a\tb\n",
        "caf\u00e9\n",
        "no newline",
        "two newlines\n\n",
        " indented\n",
        "\nempty line\n",
        "",
        "\n",
        "a\rb\n",
        "a = '{{resolve:ssm:x}}'\n",
        "x" * MAX_DIRECT_BYTES + "\n",
    ],
)
def test_code_that_would_not_survive_is_not_inlined(code: str) -> None:
    with pytest.raises(CopyError):
        package.inlined(skeleton(), code)


@pytest.mark.parametrize("place", ["", PLACE * 2, PLACE[1:]])
def test_a_skeleton_has_one_place_for_the_code(place: str) -> None:
    with pytest.raises(CopyError):
        package.inlined(skeleton(place), "pass\n")


@given(st.from_regex(r"\A[\n -~]*[!-~]\n\Z"))
def test_inlined_code_survives_byte_for_byte(code: str) -> None:
    try:
        text = package.inlined(skeleton(), code)
    except CopyError:
        assert code[0] in " \n" or "{{resolve:" in code
        return
    assert parse_template(text)["Resources"]["F"]["Properties"]["Code"]["ZipFile"] == code


def test_nothing_is_written_if_one_file_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError):
        write_all(tmp_path, {"a": b"new", "missing/b": b"new"})
    assert contents(tmp_path) == {"a": b"old"}


def test_a_failure_is_one_line_and_leaves_the_old_files(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    (folder / "authorizer.py").write_bytes(CODE + b"\t# a tab\n")
    (folder / "dist").mkdir()
    (folder / "dist" / "template.yaml").write_text("old")
    done = run(folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("package.py: authorizer.py must be printable ASCII")
    assert contents(folder / "dist") == {"template.yaml": b"old"}


def test_a_wheel_that_cannot_be_built_is_one_line(tmp_path: Path) -> None:
    folder = checkout(tmp_path / "checkout")
    (folder / "pyproject.toml").write_text("[build-system\n")
    done = run(folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("package.py: hatchling could not build the wheel: ")
    assert not (folder / "dist").exists()
