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
"""HTTP statuses of a server that is busy or restarting, or whose upstream is.

500 is included because servers send it when their database is locked, and because repeating a
request is harmless here: every object is stored under its own UID.
"""


class CutShortError(Exception):
    """An answer ended before it was complete."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Number of attempts of an action, and the pauses between them.

    Attributes:
        attempts: Most attempts.
        first: Length of the first pause in seconds; each further pause is twice as long.
        longest: Longest pause in seconds; if a server asks for more, there is no other attempt.
        sleep: Function that pauses.
    """

    attempts: int = 5
    first: float = 1.0
    longest: float = 60.0
    sleep: Callable[[float], None] = time.sleep

    def __call__(self, action: Callable[[], T]) -> T:
        """Return what ``action`` returns, retrying after temporary failures.

        Raises:
            requests.RequestException: The last failure, or the first that is not temporary.
            CutShortError: If no attempt got a complete answer.
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
        """Return the seconds to wait after a failure; None if another attempt is useless."""
        if not _may_pass(error):
            return None
        asked = _retry_after(error)
        if asked is not None:
            return asked if asked <= self.longest else None
        # Randomized, so that several clients do not retry at the same time.
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
    """Return the seconds that a server asks to wait; None if it does not ask."""
    response = error.response if isinstance(error, requests.HTTPError) else None
    stated = None if response is None else response.headers.get("Retry-After")
    if stated is None:
        return None
    try:
        return Retry().parse_retry_after(stated)
    except (InvalidHeader, ValueError, OverflowError):
        return None


def reason_of(error: Exception) -> str:
    """Return why a request failed, in words that quote neither URL nor answer.

    Args:
        error: The error that :class:`Backoff` raised.
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
"""What each kind of failure means, more specific kinds first."""
