# SPDX-License-Identifier: MIT
"""Secrets Manager rotation function for the key that CloudFront sends to an API.

Every key that CloudFront sends is live: its version bears AWSPENDING or AWSCURRENT. That holds at
every moment, also after a crash. Secrets Manager invokes ``handler`` once a step, in this order:

createSecret  stores a new random key under AWSPENDING. The secret's other members stay.
setSecret     waits until every authorizer knows the key. Then it puts the key into the header of
              the distributions' origins. Nothing else of their configuration changes.
testSecret    waits until CloudFront has deployed the key, or the invocation's time is over.
finishSecret  tests once more, moves AWSCURRENT to the new version, and removes AWSPENDING.

After an error Secrets Manager starts again at createSecret with the same token. Every step can be
repeated, with the same end. Once the token is current, a step only removes AWSPENDING from it.

Settings are environment variables; ``SETTINGS`` has their defaults and rules. Without ORIGIN_IDS,
the header is set on each origin that has it. With it: on these, and where it has a key of the
secret. TEST_URL, a route of the API itself, is asked before CloudFront gets the key, and after.

Raises RotationError and nothing else. No error and no log line holds a key or a part of one.
"""

import http.client
import json
import logging
import os
import re
import time
from collections import Counter
from contextlib import closing, suppress
from typing import Any

import boto3
from botocore.exceptions import ClientError

SETTLE_SECONDS = 2  # an authorizer may refuse a key for 1 s after it was stored
POLL_SECONDS = 10  # between two looks at the distributions
UPDATE_TRIES = 5  # while somebody else changes a distribution
RESERVED_SECONDS = 30  # of the invocation's time, kept for the calls after a pause
URL_SECONDS = 10  # the longest silence of TEST_URL's server

PENDING, CURRENT = "AWSPENDING", "AWSCURRENT"
KEY = re.compile(r"[!-~]{16,1783}")  # what authorizer.py wants and CloudFront can send
DISTRIBUTION = r"(arn:aws[a-z-]*:cloudfront::[0-9]{12}:distribution/)?[A-Z0-9]+"
HEADER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}"  # RFC 9110, section 5.6.2; CloudFront's limit
URL = r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[!\"$-~]*"
ELEMENT = re.compile(r"<(\w+)")  # where an element of XML starts
SETTINGS = {  # by name: default, pattern, rule
    "DISTRIBUTION_IDS": ("", f"{DISTRIBUTION}(,{DISTRIBUTION})*", "ids or ARNs, such as E1AB,E2CD"),
    "SECRET_KEY_NAME": ("", ".+", "the name of a member, such as key"),
    "HEADER_NAME": ("x-origin-verify", HEADER, "the name of a header, such as x-api-key"),
    "KEY_LENGTH": ("48", "1[6-9]|[2-9][0-9]|[1-9][0-9]{2}", "a number from 16 to 999"),
    "ORIGIN_IDS": ("", "([^,]+(,[^,]+)*)?", "ids of origins, such as api,shop"),
    "TEST_URL": ("", f"({URL})?", "a URL such as https://api.example.com/health"),
}

for library in ("boto3", "botocore", "urllib3"):
    logging.getLogger(library).setLevel(logging.WARNING)  # their debug lines hold the keys


class RotationError(Exception):
    """The step failed. The text says why, and what to do."""


def handler(event: Any, context: Any) -> None:
    """Do one step: what Secrets Manager invokes. ClientRequestToken is the new version's id."""
    try:
        Rotation(event, context).run()
    except Exception as error:  # its text is not shown: it may hold what was sent or received
        raise RotationError(summary(error)).with_traceback(error.__traceback__) from None


def summary(error: Exception) -> str:
    """What may be shown of an error: its type; of an AWS error its code, and what was denied."""
    if not isinstance(error, ClientError):
        return str(error) if isinstance(error, RotationError) else type(error).__name__
    problem = error.response.get("Error", {})
    text = f"{error.operation_name}: {problem.get('Code')}"
    return f"{text}: {problem.get('Message')}" if "AccessDenied" in text else text


class Rotation:
    """One step of one rotation."""

    def __init__(self, event: Any, context: Any) -> None:
        values = {name: os.environ.get(name) or rule[0] for name, rule in SETTINGS.items()}
        wrong = [name for name, rule in SETTINGS.items() if not re.fullmatch(rule[1], values[name])]
        if wrong:
            raise RotationError("; ".join(f"{name} must be {SETTINGS[name][2]}" for name in wrong))
        self.distributions = re.findall("[A-Z0-9]+(?=,|$)", values["DISTRIBUTION_IDS"])
        self.origins = set(filter(None, map(str.strip, values["ORIGIN_IDS"].split(","))))
        self.member, self.header = values["SECRET_KEY_NAME"], values["HEADER_NAME"]
        self.length, self.url = int(values["KEY_LENGTH"]), values["TEST_URL"]
        self.secret = {"SecretId": event["SecretId"]}
        self.step, self.token = event["Step"], event["ClientRequestToken"]
        self.context, self.started = context, time.monotonic()
        self.secrets, self.cloudfront = boto3.client("secretsmanager"), boto3.client("cloudfront")
        events = self.cloudfront.meta.events
        events.register("after-call.cloudfront.GetDistribution", self.received)
        events.register("before-call.cloudfront.UpdateDistribution", self.sending)

    def run(self) -> None:
        """Check that the secret rotates and that the version is pending, then do the step."""
        steps = {"createSecret": self.create_secret, "setSecret": self.set_secret}
        steps |= {"testSecret": self.test_secret, "finishSecret": self.finish_secret}
        secret = self.secrets.describe_secret(**self.secret)
        if not secret.get("RotationEnabled"):
            raise RotationError("rotation is not enabled for this secret")
        stages = secret["VersionIdsToStages"].items()
        labelled = {label: version for version, labels in stages for label in labels}
        pending, self.current = labelled.get(PENDING), labelled.get(CURRENT, "")
        if self.token not in (pending, self.current):
            raise RotationError(f"AWSPENDING is on {pending or 'no version'}, not on {self.token}")
        if self.token != self.current:
            steps[self.step]()
        elif self.token == pending:  # an earlier try was interrupted after it moved AWSCURRENT
            self.move(PENDING, RemoveFromVersionId=self.token)
        self.log(status="done")

    def create_secret(self) -> None:
        """Store a new key, unless the version has one: CloudFront may have that already."""
        with suppress(self.secrets.exceptions.ResourceNotFoundException):
            self.members(VersionId=self.token, VersionStage=PENDING)
            return
        members = self.members(VersionStage=CURRENT)
        key = self.secrets.get_random_password(PasswordLength=self.length, ExcludePunctuation=True)
        text = json.dumps({**members, self.member: key["RandomPassword"]}, ensure_ascii=False)
        self.secrets.put_secret_value(  # raises if another invocation stored a key meanwhile
            ClientRequestToken=self.token, SecretString=text, VersionStages=[PENDING], **self.secret
        )

    def set_secret(self) -> None:
        """Make every distribution carry the key. What others change meanwhile stays."""
        keys, errors = self.keys(), self.cloudfront.exceptions
        for distribution in self.distributions:
            self.read(distribution, *keys)  # raises before any of them is changed
        time.sleep(SETTLE_SECONDS)
        self.try_api(keys[0])
        for distribution in self.distributions:
            for _ in range(UPDATE_TRIES):
                carries, config, etag, _status = self.read(distribution, *keys)
                if carries:
                    break
                self.keys()  # raises if a later try has finished meanwhile
                call = {"Id": distribution, "IfMatch": etag, "DistributionConfig": config}
                try:
                    self.cloudfront.update_distribution(**call)
                    break
                except (errors.PreconditionFailed, errors.InvalidIfMatchVersion):
                    self.log(distribution=distribution, status="changed by others")
                    self.pause(f"others to stop updating {distribution}")
            else:
                raise RotationError(f"{distribution} changed at each of {UPDATE_TRIES} tries")

    def test_secret(self) -> None:
        """Wait until two looks in a row see the key deployed, and no change."""
        keys = self.keys()
        self.try_api(keys[0])
        seen: dict[str, tuple[str, str]] = {}
        while True:
            before, seen = seen, {}
            for distribution in self.distributions:
                carries, _config, etag, status = self.read(distribution, *keys)
                if not carries:
                    raise RotationError(f"somebody put another value back into {distribution}")
                self.log(distribution=distribution, status=status)
                seen[distribution] = etag, status
            waiting = [id for id, (_etag, status) in seen.items() if status != "Deployed"]
            if seen == before and not waiting:
                break
            self.pause(f"CloudFront to deploy {', '.join(waiting)}" if waiting else "a second look")

    def finish_secret(self) -> None:
        """Make the pending version current. Raises if AWSCURRENT has moved since the step began."""
        self.test_secret()  # again, because time may have passed
        self.move(CURRENT, MoveToVersionId=self.token, RemoveFromVersionId=self.current)
        self.move(PENDING, RemoveFromVersionId=self.token)  # or the key stays live for too long

    def move(self, label: str, **versions: str) -> None:
        """Move a staging label, or remove it."""
        self.secrets.update_secret_version_stage(VersionStage=label, **self.secret, **versions)

    def members(self, **version: str) -> dict[str, Any]:
        """The JSON object in a version of the secret."""
        answer = self.secrets.get_secret_value(**self.secret, **version)
        members = json.loads(answer.get("SecretString", "null"))
        if not isinstance(members, dict):
            raise RotationError(f"version {answer['VersionId']} is not a JSON object")
        return members

    def keys(self) -> tuple[str, object]:
        """The keys in the pending and in the current version."""
        key = self.members(VersionId=self.token, VersionStage=PENDING).get(self.member)
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise RotationError(f"no header can carry the key in {self.token}. See SECRET_KEY_NAME")
        return key, self.members(VersionStage=CURRENT).get(self.member)

    def read(self, distribution: str, key: str, old: object) -> tuple[bool, Any, str, str]:
        """Whether a distribution carries the key; its configuration with the key; ETag, status."""
        answer = self.cloudfront.get_distribution(Id=distribution)
        config, found = answer["Distribution"]["DistributionConfig"], []
        ids = {origin["Id"] for origin in config["Origins"]["Items"]}
        for origin in config["Origins"]["Items"]:
            items = origin.get("CustomHeaders", {}).get("Items", [])
            own = [it for it in items if it["HeaderName"].lower() == self.header.lower()]
            if origin["Id"] in self.origins and not own:
                own = [{"HeaderName": self.header, "HeaderValue": ""}]
                origin["CustomHeaders"] = {"Quantity": len(items) + 1, "Items": items + own}
            named = origin["Id"] in (self.origins or ids)
            found += [it for it in own if named or it["HeaderValue"] in (key, old)]
        if not found or self.origins - ids:
            lack = f"{distribution} lacks an origin of ORIGIN_IDS, or the header {self.header}"
            raise RotationError(f"{lack}. Set ORIGIN_IDS to the API's origins, to have it added")
        carries = all(entry["HeaderValue"] == key for entry in found)
        for entry in found:
            entry["HeaderValue"] = key
        return carries, config, answer["ETag"], answer["Distribution"]["Status"]

    def received(self, http_response: Any, **_: Any) -> None:
        """Note the elements of a distribution's configuration, also those unknown to boto3."""
        config = http_response.content.decode().partition("<DistributionConfig")[2]
        self.elements = Counter(ELEMENT.findall(config.partition("</DistributionConfig>")[0]))

    def sending(self, params: Any, **_: Any) -> None:
        """Raise if boto3 is about to send a configuration that lacks one of these elements."""
        if lost := self.elements - Counter(ELEMENT.findall(params["body"].decode())):
            raise RotationError(f"this boto3 is too old: an update would remove {', '.join(lost)}")

    def try_api(self, key: str) -> None:
        """Raise if TEST_URL refuses the key or fails. Follows no redirect and uses no proxy."""
        if not self.url:
            return
        host, _, path = self.url.removeprefix("https://").partition("/")
        with closing(http.client.HTTPSConnection(host, timeout=URL_SECONDS)) as connection:
            connection.request("GET", f"/{path}", headers={self.header: key})
            status = connection.getresponse().status
        if status in (401, 403) or status >= 500:
            raise RotationError(f"TEST_URL answered {status} to the key: see the authorizer's log")

    def pause(self, reason: str) -> None:
        """Sleep; raise if the invocation's time would be over then."""
        if self.context.get_remaining_time_in_millis() < 1000 * (POLL_SECONDS + RESERVED_SECONDS):
            raise RotationError(f"no time is left to wait for {reason}. The next try goes on")
        time.sleep(POLL_SECONDS)

    def log(self, **fields: str) -> None:
        """Print one JSON line."""
        seconds = round(time.monotonic() - self.started, 1)
        print(json.dumps({"step": self.step, "version": self.token, **fields, "seconds": seconds}))
