# SPDX-License-Identifier: MIT
"""What the measured handlers do alike: take the key from an event, log the decision in one line,
answer.
"""

from __future__ import annotations

import logging
import os
from typing import Any

SECRET, MEMBER = os.environ["SECRET_NAME"], os.environ["SECRET_KEY_NAME"]
LABELS = ("AWSCURRENT", "AWSPENDING")

logger = logging.getLogger("measured")
logger.setLevel(logging.INFO)


def presented(event: Any) -> bytes:
    """The key in an event of payload format 2.0."""
    return event["headers"].get("x-origin-verify", "").encode()  # type: ignore[no-any-return]


def answer(event: Any, allowed: bool) -> dict[str, object]:
    """Log the decision with the request's id; the simple response."""
    logger.log(
        logging.INFO if allowed else logging.WARNING,
        'outcome="%s" request_id="%s"',
        "allow" if allowed else "refuse",
        event["requestContext"]["requestId"],
    )
    return {"isAuthorized": allowed}
