# SPDX-License-Identifier: MIT
"""The other half of the system in virtual time: CloudFront, and the rotation function.

scripts/deploy/rotator.py runs here unmodified and without boto3: stand-ins replace what it imports
of boto3, and its ``time``. It runs in a thread of its own, only while the world waits for it. So it
sleeps and calls AWS at instants of the world, and requests come between. Times are in seconds.
"""

from __future__ import annotations

import copy
import json
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from lib.console import ROOT
from lib.rotation import VirtualWorld, as_it_is
from lib.standins import PENDING

ROTATOR = ROOT / "scripts" / "deploy" / "rotator.py"
CODE = compile(ROTATOR.read_text("utf-8"), str(ROTATOR), "exec", dont_inherit=True)
SETTINGS = {"DISTRIBUTION_IDS": "E1", "SECRET_KEY_NAME": "key"}
CALL = 0.05  # how long one call to AWS takes
INVOCATION = 900.0  # the longest invocation of the rotation function
RETRY = 60.0  # from a failed try of a rotation to the next one
MAX_TRIES = 100  # then something is wrong
STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")


class ClientError(Exception):
    """As botocore's: an error that AWS answered."""

    def __init__(self, code: str, operation_name: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code, "Message": ""}}
        self.operation_name = operation_name


class NotFoundError(ClientError):
    """As boto3's client.exceptions.ResourceNotFoundException."""


class PreconditionError(ClientError):
    """As boto3's client.exceptions.PreconditionFailed."""


class Background:
    """A function that runs in a thread, in turns with the world."""

    def __init__(self, world: VirtualWorld, function: Callable[[], object]) -> None:
        self.world = world
        self.function = function
        self.error: BaseException | None = None
        self.turn, self.pause = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self.work, daemon=True).start()

    def work(self) -> None:
        self.turn.acquire()
        try:
            self.function()
        except BaseException as error:
            self.error = error
        self.pause.release()

    def resume(self) -> None:
        """Let the function run until it sleeps or ends. Raises what it raised."""
        self.turn.release()
        self.pause.acquire()
        if self.error:
            raise self.error

    def sleep(self, seconds: float) -> None:
        """What the function calls in place of time.sleep()."""
        self.world.at(self.world.now + seconds, self.resume)
        self.pause.release()
        self.turn.acquire()


def header_in(config: dict[str, Any]) -> dict[str, str]:
    """The header with the key in a distribution's configuration."""
    header: dict[str, str] = config["Origins"]["Items"][0]["CustomHeaders"]["Items"][0]
    return header


class CloudFront:
    """One distribution, as its clients see it. A deployment reaches its edges one by one."""

    def __init__(self, world: VirtualWorld, key: str, delays: list[float]) -> None:
        """``delays`` are of the edges, after an update."""
        self.world = world
        self.delays = delays
        self.edges = [key] * len(delays)  # what each one sends
        self.switched: list[list[tuple[float, str]]] = [[(world.now, key)] for _ in delays]
        self.deployed_at = world.now
        self.etag = 1
        header = {"HeaderName": "X-Origin-Verify", "HeaderValue": key}
        origin = {"Id": "api", "CustomHeaders": {"Quantity": 1, "Items": [header]}}
        self.config: dict[str, Any] = {"Origins": {"Quantity": 1, "Items": [origin]}}

    def get_distribution(self, Id: str) -> dict[str, Any]:
        """GetDistribution."""
        status = "InProgress" if self.world.now < self.deployed_at else "Deployed"
        distribution = {"Status": status, "DistributionConfig": copy.deepcopy(self.config)}
        return {"ETag": str(self.etag), "Distribution": distribution}

    def update_distribution(
        self, Id: str, IfMatch: str, DistributionConfig: dict[str, Any]
    ) -> None:
        """UpdateDistribution."""
        if IfMatch != str(self.etag):
            raise PreconditionError("PreconditionFailed", "UpdateDistribution")
        self.config = copy.deepcopy(DistributionConfig)
        self.etag += 1
        self.deployed_at = self.world.now + max(self.delays)
        key = header_in(self.config)["HeaderValue"]
        for edge, delay in enumerate(self.delays):
            self.world.at(self.world.now + delay, partial(self.switch, edge, key))

    def deploy(self, key: str = "") -> None:
        """Somebody else's update, which may put another key back."""
        config = copy.deepcopy(self.config)
        if key:
            header_in(config)["HeaderValue"] = key
        self.update_distribution("", str(self.etag), config)

    def switch(self, edge: int, key: str) -> None:
        self.edges[edge] = key
        self.switched[edge].append((self.world.now, key))


class SecretsManager:
    """The world's secret, as its clients see it."""

    def __init__(self, world: VirtualWorld, keys: Iterator[str]) -> None:
        """``keys`` are what GetRandomPassword gives."""
        self.world = world
        self.keys = keys

    def describe_secret(self, SecretId: str) -> dict[str, Any]:
        """DescribeSecret."""
        stages: dict[str, list[str]] = {}
        for label, version_id in self.world.secret.labels.items():
            stages.setdefault(version_id, []).append(label)
        return {"RotationEnabled": True, "VersionIdsToStages": stages}

    def get_secret_value(
        self, SecretId: str, VersionStage: str, VersionId: str = ""
    ) -> dict[str, Any]:
        """GetSecretValue."""
        secret = self.world.secret
        version_id = secret.labels.get(VersionStage, "")
        string = secret.versions[version_id].string if version_id else None
        if string is None or VersionId not in ("", version_id):
            raise NotFoundError("ResourceNotFoundException", "GetSecretValue")
        return {"VersionId": version_id, "SecretString": string}

    def get_random_password(self, **_: object) -> dict[str, str]:
        """GetRandomPassword."""
        return {"RandomPassword": next(self.keys)}

    def put_secret_value(self, SecretString: str, **_: object) -> None:
        """PutSecretValue, for the version under AWSPENDING."""
        if self.world.secret.versions[self.world.secret.labels[PENDING]].string:
            raise ClientError("ResourceExistsException", "PutSecretValue")
        self.world.fill(json.loads(SecretString)[self.world.secret.member])

    def update_secret_version_stage(
        self,
        SecretId: str,
        VersionStage: str,
        RemoveFromVersionId: str,
        MoveToVersionId: str = "",
    ) -> None:
        """UpdateSecretVersionStage."""
        if self.world.secret.labels.get(VersionStage) != RemoveFromVersionId:
            raise ClientError("InvalidParameterException", "UpdateSecretVersionStage")
        if MoveToVersionId:
            self.world.label(VersionStage, MoveToVersionId)
        else:
            self.world.unlabel(VersionStage)


class Client:
    """What boto3.client() gives: each call takes time, and fails where the world's do."""

    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_: None))  # of no HTTP
    exceptions = SimpleNamespace(
        ResourceNotFoundException=NotFoundError,
        PreconditionFailed=PreconditionError,
        InvalidIfMatchVersion=PreconditionError,
    )

    def __init__(
        self, service: SecretsManager | CloudFront, sleep: Callable[[float], None]
    ) -> None:
        self.service = service
        self.sleep = sleep

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.sleep(CALL)
            world = self.service.world
            if world.outage or world.fails():
                raise ClientError("ThrottlingException", name)
            return getattr(self.service, name)(**arguments)

        return call


class Rotation(Background):
    """One rotation by rotator.py, with every try that Secrets Manager makes.

    ``vary`` may change the loaded module, for a variant that a test wants to see fail.
    """

    def __init__(
        self,
        secrets: SecretsManager,
        cloudfront: CloudFront,
        vary: Callable[[Any], object] = as_it_is,
    ) -> None:
        super().__init__(secrets.world, self.rotate)
        self.tries = 0
        self.finished = float("inf")  # the instant of the end
        services: dict[str, SecretsManager | CloudFront] = {
            "secretsmanager": secrets,
            "cloudfront": cloudfront,
        }
        boto3: Any = ModuleType("boto3")
        boto3.client = lambda name: Client(services[name], self.sleep)
        errors: Any = ModuleType("botocore.exceptions")
        errors.ClientError = ClientError
        module: Any = ModuleType("rotator")
        with patch.dict(sys.modules, {"boto3": boto3, "botocore.exceptions": errors}):
            exec(CODE, module.__dict__)  # nosec B102
        module.time = SimpleNamespace(monotonic=self.world.monotonic, sleep=self.sleep)
        module.os = SimpleNamespace(environ=SETTINGS)
        module.print = lambda line: None
        vary(module)
        self.module = module

    def rotate(self) -> None:
        """What Secrets Manager does: the four steps, and all of them again after an error."""
        token = self.world.put(None, PENDING)
        event = {"SecretId": self.world.secret.name, "ClientRequestToken": token}
        while self.finished == float("inf"):
            self.tries += 1
            try:
                for step in STEPS:
                    self.module.handler({**event, "Step": step}, Invocation(self.world))
                self.finished = self.world.now
            except self.module.RotationError:
                if self.tries == MAX_TRIES:
                    raise
                self.sleep(RETRY)


class Invocation:
    """The part of Lambda's context object that the rotation function uses."""

    def __init__(self, world: VirtualWorld) -> None:
        self.world = world
        self.end = world.now + INVOCATION

    def get_remaining_time_in_millis(self) -> int:
        return int(1000 * (self.end - self.world.now))


def finish_at_once(module: Any) -> None:
    """Vary rotator.py: as public ones do, it does not wait until CloudFront has deployed."""
    module.Rotation.test_secret = lambda self: None
