# SPDX-License-Identifier: MIT
"""What the tests share: the authorizer under test, its world of stand-ins, and the Hypothesis
profiles.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lib.standins import SUBJECT, TOKEN, Clock, Context, Extension, Secret

OLD, NEW, NEWER = "old-key-" + "o" * 24, "new-key-" + "n" * 24, "newer-key-" + "r" * 22

# It runs once, in an environment of its own: its docstring says how.
collect_ignore = ["test_rotator.py"]

TOOLS = ("awslambdaric", "cfnlint", "hatchling", "hypothesis")


@pytest.hookimpl(tryfirst=True)  # before Hypothesis's own, which may choose another profile
def pytest_configure() -> None:
    """Say which command sets the tools up where some are missing; make the Hypothesis profiles.

    Examples are drawn the same way on every run, so that CI fails only for a change. The profile
    "deep" explores.
    """
    missing = [name for name in TOOLS if not importlib.util.find_spec(name)]
    if missing:
        raise pytest.UsageError(
            f"the tests need {', '.join(missing)}. Run pip install '.[dev]' for this Python, "
            "or python3 scripts/check.py, which sets up .venv/ by itself."
        )
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "default",
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    settings.register_profile(
        "deep",
        settings.get_profile("default"),
        derandomize=False,
        max_examples=10_000,
        print_blob=True,
    )
    settings.load_profile("default")


def load(name: str = SUBJECT.stem, path: Path = SUBJECT) -> ModuleType:
    """A fresh copy of the authorizer's module, as in a new execution environment."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class World:
    """One execution environment beside a stand-in for the Extension, both on one clock that can
    be moved.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.secret = Secret(clock=self.clock)
        self.extension = Extension(self.secret, TOKEN)
        self.restart()
        self._monkeypatch = monkeypatch
        for name in (
            "AWS_LAMBDA_LOG_FORMAT",
            "AWS_LAMBDA_LOG_LEVEL",
            "LOG_LEVEL",
            "HEADER_NAME",
            "RESPONSE_FORMAT",
        ):
            monkeypatch.delenv(name, raising=False)
        self.set(
            SECRET_NAME=self.secret.name,
            SECRET_KEY_NAME=self.secret.member,
            AWS_SESSION_TOKEN=TOKEN,
            PARAMETERS_SECRETS_EXTENSION_HTTP_PORT=str(self.extension.port),
            SECRETS_MANAGER_TTL="0",
        )

    def restart(self) -> World:
        """Begin a new execution environment: nothing is known in it yet."""
        module: Any = load()
        module.time = self.clock
        self.module = module
        return self

    def set(self, **settings: str) -> None:
        """Set environment variables; they count from the first event on."""
        for name, value in settings.items():
            self._monkeypatch.setenv(name, value)

    def handle(self, event: object, milliseconds: int = 5000) -> dict[str, Any]:
        """The handler's answer to an event."""
        answer: dict[str, Any] = self.module.handler(event, Context(milliseconds))
        return answer

    def ask(self, key: object, milliseconds: int = 5000) -> str:
        """What becomes of a request with that key: "allow", "refuse" or "raise"."""
        try:
            answer = self.handle({"headers": {"x-origin-verify": key}}, milliseconds)
        except self.module.SecretUnavailableError:
            return "raise"
        assert answer["isAuthorized"] in (True, False)
        return "allow" if answer["isAuthorized"] is True else "refuse"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """An execution environment with an Extension and a secret without versions."""
    world = World(monkeypatch)
    yield world
    world.extension.stop()
