# SPDX-License-Identifier: MIT
"""What scripts/verify_copy.py says of copies: identical, different, or that it cannot tell."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import package
import verify_copy
from lib.console import ROOT
from lib.copies import source, version_of

CODE = source("authorizer.py").decode()
TEMPLATE = package.inlined(source(package.SKELETON).decode(), CODE)
CHANGED = CODE.replace("hmac.compare_digest(", "(lambda a, b: True)(")
assert CHANGED != CODE


def write(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


def zipped(files: dict[str, str | bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def function(code: object) -> dict[str, object]:
    return {"Type": "AWS::Lambda::Function", "Properties": {"Code": {"ZipFile": code}}}


def template(**resources: object) -> str:
    return json.dumps({"Resources": resources})


def yaml_template(code: str, tag: str = "|") -> str:
    lines = "".join(f"        {line}\n" if line else "\n" for line in code.splitlines())
    head = (
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      InlineCode: "
    )
    return f"{head}{tag}\n{lines}"


WHEEL: dict[str, str | bytes] = {
    "secure_authorizer/authorizer.py": CODE,
    "secure_authorizer/py.typed": "",
    "p-1.0.dist-info/RECORD": "",
}
NESTED = "[" * 100_000

IDENTICAL: dict[str, str | bytes] = {
    "anything.PY": CODE,
    "mixed.py": "\ufeff" + CODE.replace("\n", "\r", 9).replace("\n", "\r\n", 100),
    "deflated.zip": zipped({"authorizer.py": CODE}),
    "stored": zipped({"index.py": CODE}, zipfile.ZIP_STORED),
    "crlf-in.zip": zipped({"index.py": b"\xef\xbb\xbf" + CODE.replace("\n", "\r\n").encode()}),
    "wheel.whl": zipped({"p/": "", **WHEEL, "p-1.0.dist-info/direct_url.json": ""}),
    "template.yaml": TEMPLATE,
    "crlf.yaml": "\ufeff" + TEMPLATE.replace("\n", "\r\n"),
    "tagged.yaml": yaml_template(CODE, "!!str |"),
    "crlf.json": template(F=function("\ufeff" + CODE.replace("\n", "\r\n"))),
    "beside-another.json": template(G=function("def handler(e, c): ..."), F=function(CODE)),
}

DIFFERS: dict[str, str | bytes] = {
    "changed.py": CHANGED,
    "space-at-line-end.py": CODE.replace("\n", " \n", 1),
    "last-newline-less.py": CODE[:-1],
    "two-boms.py": "\ufeff\ufeff" + CODE,
    "zero-width.py": CODE.replace("handler", "han\u200bdler", 1),
    "empty.py": "",
    "changed.zip": zipped({"authorizer.py": CHANGED}),
    "decoy-in-comment.yaml": "#" + TEMPLATE.replace("\n", "\n#") + "\n" + yaml_template(CHANGED),
    "changed.json": template(F=function(CHANGED)),
    "surrogate.json": template(F=function(CODE + "# \ud800\n")),
}

CANNOT_TELL: dict[str, tuple[str | bytes, str]] = {  # content, and a part of the reason
    "latin.py": (b"# caf\xe9\n", "UTF-8"),
    "too-large.py": (b"#" * 1_048_577, "more than 1048576 bytes"),
    "two.zip": (zipped({"authorizer.py": CODE, "index.py": CODE}), "holds authorizer.py, index.py"),
    "none.zip": (zipped({}), "holds nothing"),
    "shadow.zip": (zipped({"authorizer.py": CODE, "hmac.so": b"\x7fELF"}), "hmac.so"),
    "in-dist-info.zip": (zipped({**WHEEL, "p-1.0.dist-info/RECORD.so": ""}), "RECORD.so"),
    "no-python.zip": (zipped({"authorizer.so": CODE}), "holds authorizer.so"),
    "truncated.zip": (zipped({"authorizer.py": CODE})[:-30], "damaged"),
    "damaged.zip": (zipped({"a.py": "hmac"}, zipfile.ZIP_STORED).replace(b"hmac", b"evil"), "dama"),
    "bzip2.zip": (zipped({"authorizer.py": CODE}, zipfile.ZIP_BZIP2), "neither stored nor"),
    "bomb.zip": (zipped({"authorizer.py": b"#" * 50_000_000}), "more than 1048576 bytes"),
    "empty": ("", "no Resources"),
    "nul.yaml": ("Resources:\n  \0: x\n", "nor JSON or YAML"),
    "broken.yaml": ("Resources: [}\n", "(line 1)"),
    "list.json": ('{"Resources": []}', "no Resources"),
    "sam.yaml": (source("scripts/deploy/sam.yaml"), "no copy; check the zip that CodeUri names"),
    "another.json": (template(F=function("def handler(e, c): ...")), "no copy"),
    "strange.json": (template(F=None, G=[], H={"Type": ["x"]}, I=function({})), "no copy"),
    "two.json": (template(A=function(CODE), B=function(CHANGED)), "several copies: A, B"),
    "sub.yaml": (yaml_template(CODE, "!Sub |"), "passes through Fn::Sub"),
    "join.json": (template(F=function({"Fn::Join": ["", [CODE]]})), "passes through Fn::Join"),
    "macro.json": (json.dumps({"Transform": "Mine", "Resources": {}}), "names a macro"),
    "include.json": (template(F={"Fn::Transform": {"Name": "AWS::Include"}}), "Fn::Transform"),
    "twice.json": ('{"Resources": {}, "Resources": {}}', "two entries"),
    "twice.yaml": (yaml_template(CODE) + "      InlineCode: evil\n", "two entries"),
    "alias.yaml": ("A: &a {Type: X}\nResources:\n  F: *a\n", "alias"),
    "recursive.yaml": ("Resources: &a\n  F: *a\n", "alias"),
    "deep.yaml": (f"Resources: {NESTED}", "nested too deeply"),
    "deep.json": (f'{{"Resources": {NESTED}', "nested too deeply"),
    "key-is-a-list.yaml": ("Resources:\n  ? [a, b]\n  : c\n", "key that is no string"),
    "two-documents.yaml": (TEMPLATE + "---\n" + TEMPLATE, "nor JSON or YAML"),
    "python-tag.yaml": ("Resources: !!python/object/apply:os.system ['exit 1']\n", "no Resources"),
}


@pytest.mark.parametrize("name", IDENTICAL)
def test_identical(name: str, tmp_path: Path) -> None:
    verdict = verify_copy.judge(write(tmp_path, name, IDENTICAL[name]), CODE)
    assert (verdict.result, verdict.diff, verdict.reason) == ("identical", None, None)
    assert verdict.version == version_of(CODE)
    assert verdict.sha256 == hashlib.sha256(CODE.encode()).hexdigest()


@pytest.mark.parametrize("name", DIFFERS)
def test_differs(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, DIFFERS[name])
    verdict = verify_copy.judge(path, CODE)
    assert verdict.result == "differs" and verdict.diff
    assert verdict.diff.startswith(f"--- authorizer.py\n+++ {path}\n@@ ")


@pytest.mark.parametrize("name", CANNOT_TELL)
def test_cannot_tell(name: str, tmp_path: Path) -> None:
    content, reason = CANNOT_TELL[name]
    verdict = verify_copy.judge(write(tmp_path, name, content), CODE)
    assert verdict.result == "cannot tell" and verdict.diff is verdict.sha256 is None
    assert verdict.reason and reason in verdict.reason and verdict.reason.isprintable()


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path, "bomb.zip", CANNOT_TELL["bomb.zip"][0])
    tracemalloc.start()
    try:
        verify_copy.judge(path, CODE)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def run(
    *arguments: str | Path, python: tuple[str, ...] = (sys.executable,), encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    command = [*python, str(ROOT / "scripts" / "verify_copy.py"), *map(str, arguments)]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", timeout=120)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """One path of each result, by exit status."""
    return [
        write(tmp_path, "identical.zip", IDENTICAL["deflated.zip"]),
        write(tmp_path, "differs.yaml", yaml_template(CHANGED)),
        write(tmp_path, "unknown.yaml", CANNOT_TELL["sam.yaml"][0]),
    ]


def test_the_exit_status_is_that_of_the_worst_path(paths: list[Path]) -> None:
    good, bad, unknown = paths
    assert [run(it).returncode for it in paths] == [0, 1, 2]
    assert run(good, bad).returncode == 1
    assert run(unknown, bad, good).returncode == run().returncode == 2


def test_people_are_told_the_place_the_version_and_the_difference(paths: list[Path]) -> None:
    good, bad, unknown = map(run, paths)
    digest = base64.b64encode(hashlib.sha256(paths[0].read_bytes()).digest()).decode()
    assert good.stdout.startswith(f"identical: {paths[0]}, in authorizer.py\n")
    assert f"version {version_of(CODE)};" in good.stdout and f"CodeSha256 {digest}\n" in good.stdout
    assert bad.stdout.startswith(f"differs: {paths[1]}, in F\n") and "lambda a, b" in bad.stdout
    assert unknown.stdout.startswith(f"cannot tell: {paths[2]}: it holds no copy; check the zip")
    assert unknown.stdout.count("\n") == 1
    assert good.stderr == bad.stderr == unknown.stderr == ""


def test_machines_get_json(paths: list[Path]) -> None:
    verdicts = json.loads(run("--json", *paths).stdout)
    assert [it["path"] for it in verdicts] == list(map(str, paths))
    assert [it["result"] for it in verdicts] == ["identical", "differs", "cannot tell"]
    assert {tuple(it) for it in verdicts} == {verify_copy.Verdict._fields}


def test_a_long_difference_is_cut_and_a_huge_one_left_out(tmp_path: Path) -> None:
    verdict = verify_copy.judge(write(tmp_path, "copy.py", "x\n" * 500), CODE)
    lines = str(verdict.diff).split("\n")
    assert len(lines) == 201 and lines[-1].endswith(" more lines")
    assert verify_copy.judge(write(tmp_path, "copy.py", CODE * 20), CODE).diff is None


@pytest.mark.parametrize("name", ["missing.py", "missing.zip", ".", "/dev/null", "new\nline.py"])
def test_what_is_no_file_is_one_line(name: str, tmp_path: Path) -> None:
    done = run(tmp_path / name)
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (2, 1, "")
    why = "it is no file" if name in (".", "/dev/null") else "there is no such file"
    assert done.stdout.startswith("cannot tell: ") and done.stdout.endswith(f": {why}\n")


def test_another_version_is_named(tmp_path: Path) -> None:
    ours = f'__version__ = "{version_of(CODE)}"'
    done = run(write(tmp_path, "old.py", CODE.replace(ours, '__version__ = "0.9.0"')))
    assert "version 0.9.0;" in done.stdout and f"has version {version_of(CODE)};" in done.stdout
    assert "version not stated;" in run(write(tmp_path, "none.py", CODE.replace(ours, ""))).stdout


@pytest.mark.parametrize("option", ["--json", "--facts"])
def test_a_copy_never_runs(option: str, tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n" + CODE
    write(tmp_path, "hmac.py", code)
    copy = write(tmp_path, "copy.py", code)
    for path in (copy, write(tmp_path, "a.zip", zipped({"authorizer.py": code}))):
        assert run(option, path).returncode == int(option == "--json")
    assert not (tmp_path / "ran").exists()


def test_a_copy_cannot_command_the_terminal(tmp_path: Path) -> None:
    path = write(tmp_path, "copy.py", CODE + "# caf\u00e9 \x1b]0;title\x07 \u202e\n")
    done = run(path)
    assert done.returncode == 1 and "+# caf\u00e9 \\x1b]0;title\\x07 \\u202e" in done.stdout
    done = run(path, encoding="ascii")  # which lacks a letter
    assert (done.returncode, done.stderr) == (1, "") and "+# caf\\xe9" in done.stdout


def test_a_python_without_pyyaml_uses_the_locked_one(paths: list[Path]) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(sys.base_prefix, "bin", f"python{version}")  # that the virtual environment is of
    if not base.exists():
        pytest.skip(f"there is no {base}")
    bare = (str(base), "-S")  # without site-packages
    assert subprocess.run([*bare, "-c", "import yaml"], capture_output=True).returncode == 1
    done = run("--json", *paths[:2], python=bare)
    assert (done.returncode, len(json.loads(done.stdout))) == (1, 2)
    assert run("--facts", paths[1], python=bare).returncode == 0


@given(st.integers(0, 60_000), st.integers(0, 255), st.sampled_from(["zip", "py", "yaml"]))
def test_no_damage_is_taken_for_identical(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, kind: str
) -> None:
    """One byte changed: whatever is said, nothing is raised, and no other text is identical."""
    whole = bytearray(zipped({"authorizer.py": CODE}))
    if kind != "zip":
        whole = bytearray((CODE if kind == "py" else yaml_template(CODE)).encode())
    whole[at % len(whole)] = byte
    path = write(tmp_path_factory.mktemp("damaged"), f"copy.{kind}", bytes(whole))
    verdict = verify_copy.judge(path, CODE)
    if verdict.result == "identical":
        assert verdict.sha256 == hashlib.sha256(CODE.encode()).hexdigest()
        assert kind != "py" or bytes(whole).replace(b"\r", b"\n") == CODE.encode()
