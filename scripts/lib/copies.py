# SPDX-License-Identifier: MIT
"""Copies of authorizer.py in templates and zips: what ``package.py`` makes and
``verify_copy.py`` checks.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from lib.console import ROOT

MAX_DIRECT_BYTES = 51_200  # CloudFormation's limit for a template that is passed directly
SAM = "AWS::Serverless-2016-10-31"  # the one macro that leaves the code alone
FUNCTION_CODE = {
    "AWS::Lambda::Function": ("Code", "ZipFile"),
    "AWS::Serverless::Function": ("InlineCode",),
}


class CopyError(Exception):
    """A copy cannot be made or judged; the text says why, in one line."""


class NeedsYaml(Exception):
    """A template is not JSON, and this Python has no PyYAML to read it as YAML."""


def source(name: str, root: Path = ROOT) -> bytes:
    """A text file of the checkout with the newlines it has in git, whatever the checkout made of
    them.
    """
    return (root / name).read_bytes().replace(b"\r\n", b"\n")


def version_of(code: str) -> str | None:
    """The ``__version__`` that a text of authorizer.py states; None if it states none."""
    found = re.search(r'^__version__ = "([0-9A-Za-z.+-]{1,40})"$', code, re.MULTILINE)
    return found[1] if found else None


def parse_template(text: str) -> dict[str, Any]:
    """A template as CloudFormation reads it: JSON, or YAML with ``!Sub x`` as ``{"Fn::Sub": "x"}``.

    All scalars of a YAML template are strings. Raises CopyError for what CloudFormation would not
    take, or could change by a macro before it uses it; NeedsYaml.
    """
    try:
        document = json.loads(text, object_pairs_hook=_mapping)
    except (ValueError, RecursionError):
        document = _parse_yaml(text)
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise CopyError("it is neither Python, nor a zip, nor a template (it has no Resources)")
    if document.get("Transform", SAM) not in (SAM, [SAM]):
        raise CopyError("its Transform names a macro, which can change the code")
    return document


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """A mapping in which no second entry can hide the first, and no macro can change the rest."""
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise CopyError("it has a mapping with a key that is no string")
        if key in mapping:
            raise CopyError(f"it has a mapping with two entries {key[:60]!r}")
        if key == "Fn::Transform":
            raise CopyError("it has an Fn::Transform, which can change the code")
        mapping[key] = value
    return mapping


def _parse_yaml(text: str) -> Any:
    try:
        import yaml  # type: ignore[import-untyped]  # it has no types of its own
    except ImportError:
        raise NeedsYaml from None
    seen: set[int] = set()

    def plain(node: Any) -> Any:
        if id(node) in seen:  # so nothing can grow beyond the text either
            raise CopyError("it has a YAML alias, which CloudFormation does not take")
        seen.add(id(node))
        value: Any = node.value
        if isinstance(node, yaml.SequenceNode):
            value = [plain(item) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            value = _mapping([(plain(key), plain(item)) for key, item in node.value])
        if not node.tag.startswith("!"):
            return value
        name = node.tag[1:]
        if name == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return _mapping([(name if name in ("Ref", "Condition") else f"Fn::{name}", value)])

    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        return None if node is None else plain(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise CopyError(f"it is neither Python, nor a zip, nor JSON or YAML{place}") from None
    except RecursionError:
        raise CopyError("it is nested too deeply for a template") from None


def inlined_code(template: dict[str, Any]) -> dict[str, Any]:
    """The inlined code of functions by their logical ids: a ``str``, or the mapping of an
    intrinsic function.
    """
    found: dict[str, Any] = {}
    for name, resource in template["Resources"].items():
        kind = str(resource.get("Type")) if isinstance(resource, dict) else ""
        value: Any = resource if kind in FUNCTION_CODE else None
        for step in ("Properties", *FUNCTION_CODE.get(kind, ())):
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Put files into a folder, made if missing: each appears whole, and none if one cannot be
    written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as name:
        parts = Path(name)
        for file, data in files.items():
            (parts / file).write_bytes(data)
        for file in files:
            os.replace(parts / file, folder / file)
