"""Retry with growing pauses, up to a limit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry


T = TypeVar("T")

WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that is busy, restarting, or behind one that is.

500 is among them because servers say it when their database is locked, and because nothing asked
here does harm when asked twice: objects are stored under UIDs of their own.
"""


class CutShortError(Exception):
    """An answer ended before it was whole."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How often something is tried, and with which pauses.

    Attributes:
        attempts: How often, at most.
        first: Seconds of the first pause; each further one is twice as long.
        longest: Seconds of the longest pause; a server that asks for more is not waited for.
        sleep: What pauses.
    """

    attempts: int = 5
    first: float = 1.0
    longest: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, action: Callable[[], T]) -> T:
        """Return what ``action`` returns, trying again after failures that may pass.

        Raises:
            requests.RequestException: The last failure, or the first that will not pass.
            CutShortError: If no attempt got a whole answer.
        """
        for attempt in range(1, self.attempts):
            try:
                return action()
            except (requests.RequestException, CutShortError) as error:
                pause = self._pause(error, attempt)
                if pause is None:
                    raise
            self.sleep(pause)
        return action()

    def _pause(self, error: Exception, attempt: int) -> float | None:
        """Return the seconds to wait after a failure; None where another attempt is no use."""
        if not _may_pass(error):
            return None
        asked = _retry_after(error)
        if asked is not None:
            return asked if asked <= self.longest else None
        # Spread, so that several clients do not come back at once.
        pause = self.first * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return float(min(pause, self.longest))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in WORTH_RETRYING
    if isinstance(error, requests.exceptions.SSLError):
        return False
    return isinstance(
        error,
        requests.ConnectionError
        | requests.Timeout
        | requests.exceptions.ChunkedEncodingError
        | CutShortError,
    )


def _retry_after(error: Exception) -> float | None:
    """Return the seconds that a server asks for; None where it does not."""
    response = error.response if isinstance(error, requests.HTTPError) else None
    stated = None if response is None else response.headers.get("Retry-After")
    if stated is None:
        return None
    try:
        return Retry().parse_retry_after(stated)
    except (InvalidHeader, ValueError, OverflowError):
        return None


def reason_of(error: Exception) -> str:
    """Return why a request failed, in words that hold neither URL nor answer.

    Args:
        error: What :class:`Backoff` raised.
    """
    response = error.response if isinstance(error, requests.HTTPError) else None
    if response is not None:
        try:
            return f"status {response.status_code} ({HTTPStatus(response.status_code).phrase})"
        except ValueError:
            return f"status {response.status_code}"
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    return f"a failed request ({type(error).__name__})"


_REASONS: dict[type[Exception], str] = {
    CutShortError: "an answer that is cut short",
    requests.exceptions.SSLError: "a certificate that is not trusted, or none",
    requests.exceptions.ConnectTimeout: "no connection in time",
    requests.Timeout: "no answer in time",
    requests.exceptions.ChunkedEncodingError: "an answer that is cut short",
    requests.ConnectionError: "no connection",
    requests.TooManyRedirects: "a redirect",
    requests.exceptions.InvalidJSONError: "an answer that is not DICOM JSON",
}
"""What each kind of failure means, the more special first."""
