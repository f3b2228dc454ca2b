# SPDX-License-Identifier: MIT
"""Settings are validated together, on first use.

What is wrong is named with its rule, and never with its value.
"""

from __future__ import annotations

import logging
import re

import pytest

from conftest import OLD, World, load
from lib.console import ROOT

REQUIRED = {"SECRET_NAME": "s", "SECRET_KEY_NAME": "k", "AWS_SESSION_TOKEN": "t"}
CANARY = "canary-of-a-setting"

# A malformed value of each setting, or several; all hold the canary where the form allows it.
MALFORMED = [
    ("SECRET_NAME", f"{CANARY} with spaces"),
    ("SECRET_NAME", f"{CANARY}\n"),
    ("SECRET_NAME", "\udc80" + CANARY),
    ("SECRET_KEY_NAME", f"{CANARY}\nx"),
    ("HEADER_NAME", f"{CANARY}:"),
    ("HEADER_NAME", f"x {CANARY}"),
    ("HEADER_NAME", f"{CANARY}\r\nx: y"),
    ("HEADER_NAME", f"é{CANARY}"),
    *(
        (name, value)
        for name in ("ACCEPT_PREVIOUS_SECONDS", "CACHE_SECONDS", "MAX_STALE_SECONDS")
        for value in (
            "-1",
            "86401",
            "1.5",
            " 1",
            "1\n",
            "1e3",
            "0x10",
            "٣",
            "1_0",
            CANARY,
            "9" * 5000,
        )
    ),
    ("RESPONSE_FORMAT", CANARY),
    ("RESPONSE_FORMAT", "simple "),
    ("LOG_LEVEL", CANARY),
    ("LOG_LEVEL", "10"),
    ("LOG_LEVEL", "\u0130NFO"),  # a capital I with a dot, which is an i to some
    ("AWS_LAMBDA_LOG_LEVEL", CANARY),
    ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "0"),
    ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "65536"),
    ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", CANARY),
    ("SECRETS_MANAGER_TTL", "301"),
    ("SECRETS_MANAGER_TTL", CANARY),
    ("AWS_SESSION_TOKEN", f"{CANARY}\r\nX-Evil: 1"),
    ("AWS_SESSION_TOKEN", f"é{CANARY}"),
]


@pytest.mark.parametrize(("name", "value"), MALFORMED, ids=lambda value: value[:20])
def test_a_malformed_setting_is_named_without_its_value(name: str, value: str) -> None:
    module = load()
    with pytest.raises(ValueError) as caught:
        module.Settings(REQUIRED | {name: value})
    assert type(caught.value) is module.SettingsError
    assert re.fullmatch(rf"{name} must be [^;]+", str(caught.value))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", sorted({name for name, _ in MALFORMED} - {"AWS_SESSION_TOKEN"}))
def test_the_rule_of_a_setting_has_an_example_that_is_well_formed(name: str) -> None:
    module = load()
    with pytest.raises(ValueError) as caught:
        module.Settings(REQUIRED | {name: "\n"})
    example = re.search(r", for example (\S+)$", str(caught.value))
    assert example
    module.Settings(REQUIRED | {name: example[1]})


@pytest.mark.parametrize(
    ("name", "advised"),
    [
        ("ACCEPT_PREVIOUS_SECONDS", 900),
        ("CACHE_SECONDS", 60),
        ("MAX_STALE_SECONDS", 300),
        ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", 2773),
        ("SECRETS_MANAGER_TTL", 0),
    ],
)
def test_the_rule_of_a_number_tells_its_bounds_and_what_the_readme_advises(
    name: str, advised: int
) -> None:
    module = load()

    def rule(value: int) -> str:
        with pytest.raises(ValueError) as caught:
            module.Settings(REQUIRED | {name: str(value)})
        return str(caught.value)

    found = re.search(r"whole number from (\d+) to (\d+), for example (\d+)$", rule(-1))
    assert found
    low, high, example = map(int, found.groups())
    assert example == advised
    module.Settings(REQUIRED | {name: str(low)})
    module.Settings(REQUIRED | {name: str(high)})
    assert rule(low - 1) == rule(high + 1) == rule(-1)


def test_the_rule_of_the_session_token_says_whose_it_is() -> None:
    with pytest.raises(ValueError, match=r"^AWS_SESSION_TOKEN must be as Lambda sets it"):
        load().Settings(REQUIRED | {"AWS_SESSION_TOKEN": ""})


def test_all_that_is_wrong_is_named_at_once() -> None:
    module = load()
    with pytest.raises(ValueError) as caught:
        module.Settings(
            dict(MALFORMED[:8])
            | {name: CANARY for name, _ in MALFORMED[8:]}
            | {"AWS_SESSION_TOKEN": ""}
        )
    named = re.findall(r"(\w+) must be ", str(caught.value))
    # LOG_LEVEL hides it.
    assert sorted(named) == sorted({name for name, _ in MALFORMED} - {"AWS_LAMBDA_LOG_LEVEL"})


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, ""])
def test_a_required_setting_is_required(name: str, value: str | None) -> None:
    env = (
        {**REQUIRED, name: value}
        if value is not None
        else {key: REQUIRED[key] for key in REQUIRED if key != name}
    )
    with pytest.raises(ValueError, match=f"^{name} must be "):
        load().Settings(env)


def test_defaults() -> None:
    settings = load().Settings(REQUIRED)
    assert settings.header == "x-origin-verify"
    assert (
        settings.accept_previous_seconds,
        settings.cache_seconds,
        settings.max_stale_seconds,
    ) == (0, 60, 300)
    assert (settings.response_format, settings.level, settings.port, settings.extension_ttl) == (
        "auto",
        "INFO",
        2773,
        300,
    )


def test_an_empty_optional_setting_is_an_absent_one() -> None:
    names = {name for name, _ in MALFORMED} - set(REQUIRED)
    assert vars(load().Settings(REQUIRED | dict.fromkeys(names, ""))) == vars(
        load().Settings(REQUIRED)
    )


@pytest.mark.parametrize(
    ("name", "value", "attribute", "meant"),
    [
        ("HEADER_NAME", "X-Origin-Verify", "header", "x-origin-verify"),
        ("HEADER_NAME", "!#$%&'*+-.^_`|~0Az", "header", "!#$%&'*+-.^_`|~0az"),
        ("SECRET_NAME", "rds!db/a_b+c=d.e@f-g", "secret_name", "rds!db/a_b+c=d.e@f-g"),
        ("SECRET_KEY_NAME", "Schlüssel mit Leerzeichen", "key_name", "Schlüssel mit Leerzeichen"),
        ("ACCEPT_PREVIOUS_SECONDS", "86400", "accept_previous_seconds", 86_400),
        ("CACHE_SECONDS", "0", "cache_seconds", 0),
        ("MAX_STALE_SECONDS", "007", "max_stale_seconds", 7),
        ("LOG_LEVEL", "warn", "level", "WARN"),
        ("AWS_LAMBDA_LOG_LEVEL", "TRACE", "level", "DEBUG"),
        ("AWS_LAMBDA_LOG_LEVEL", "FATAL", "level", "FATAL"),
        ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "1", "port", 1),
        ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "65535", "port", 65_535),
        ("SECRETS_MANAGER_TTL", "0", "extension_ttl", 0),
    ],
)
def test_what_is_well_formed_is_taken(name: str, value: str, attribute: str, meant: object) -> None:
    assert getattr(load().Settings(REQUIRED | {name: value}), attribute) == meant


def test_log_level_is_stronger_than_lambdas() -> None:
    assert (
        load().Settings(REQUIRED | {"LOG_LEVEL": "ERROR", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}).level
        == "ERROR"
    )


def test_importing_needs_no_setting_and_the_first_event_does(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The Extension is not to be used during INIT, and a deployment's error should name the
    setting.
    """
    world.secret.put(OLD)
    world.set(SECRET_NAME="", CACHE_SECONDS="soon")
    world.restart()
    for _ in range(2):
        caplog.clear()
        with pytest.raises(ValueError, match=r"SECRET_NAME .*CACHE_SECONDS"):
            world.handle({"headers": {"x-origin-verify": OLD}})
        (record,) = caplog.records
        assert (record.levelno, record.name) == (logging.ERROR, "authorizer")
        assert re.match("settings_invalid: .*SECRET_NAME", record.getMessage())
        assert (vars(record)["outcome"], vars(record)["reason"]) == ("error", "settings_invalid")
    assert world.extension.seen == []


def test_settings_are_read_once(world: World) -> None:
    world.secret.put(OLD)
    assert world.ask(OLD) == "allow"
    world.set(SECRET_NAME="", AWS_SESSION_TOKEN="other")
    world.clock.move(61)
    assert world.ask(OLD) == "allow"


@pytest.mark.parametrize(
    ("header", "warned"),
    [
        ("X-Amz-Key", True),
        ("x-edge-key", True),
        ("X-Real-IP", True),
        ("Cookie", True),
        ("Host", True),
        ("Via", True),
        ("If-None-Match", True),
        ("Proxy-Authorization", True),
        ("Cache-Control", True),
        ("Connection", True),
        ("Content-Length", True),
        ("Max-Forwards", True),
        ("Pragma", True),
        ("Range", True),
        ("Request-Range", True),
        ("TE", True),
        ("Trailer", True),
        ("Transfer-Encoding", True),
        ("Upgrade", True),
        ("x-origin-verify", False),
        ("x-amzn-key", False),
        ("x-hosted", False),
        ("authorization", False),
    ],
)
def test_a_header_that_cloudfront_refuses_to_add_is_warned_about_once(
    world: World, header: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    world.set(HEADER_NAME=header)
    world.secret.put(OLD)
    for _ in range(2):
        assert world.handle({"headers": {header: OLD}})["isAuthorized"] is True
    text = f"HEADER_NAME is {header.lower()}: CloudFront"
    found = [record for record in caplog.records if text in record.getMessage()]
    assert [record.levelname for record in found] == (["WARNING"] if warned else [])


def test_the_readme_lists_every_setting_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", readme, re.MULTILINE))
    wanted = {
        "SECRET_NAME": "required",
        "SECRET_KEY_NAME": "required",
        "HEADER_NAME": "`x-origin-verify`",
        "ACCEPT_PREVIOUS_SECONDS": "0",
        "CACHE_SECONDS": "60",
        "MAX_STALE_SECONDS": "300",
        "RESPONSE_FORMAT": "`auto`",
        "LOG_LEVEL": "`AWS_LAMBDA_LOG_LEVEL`, else `INFO`",
    }
    assert {name: rows.get(name) for name in wanted} == wanted
