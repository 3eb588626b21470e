"""DICOMweb client: search, fetch and store, with retries if they may help."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset

from esp_medsam.errors import PacsAccessError, PacsError, PacsRefusedError
from esp_medsam.integrations.dicomweb.access import Access
from esp_medsam.integrations.dicomweb.backoff import Backoff, CutShortError, reason_of
from esp_medsam.integrations.dicomweb.multipart import save_part
from esp_medsam.integrations.dicomweb.query import (
    INSTANCE,
    SERIES,
    STUDY,
    Answer,
    Series,
    is_uid,
    no_uids,
    series_of,
    value_of,
)
from esp_medsam.integrations.dicomweb.session import PacsSession
from esp_medsam.io import output_error
from esp_medsam.quiet import quietly


T = TypeVar("T")

_Page = Callable[[int], Sequence[Answer]]
"""Function from an offset to the search results that start there."""

CONNECT_TIMEOUT = 10.0
"""Seconds allowed for making a connection."""

_PAGE = 1000
"""Results per request; servers have their own limits, so requests continue until none are new."""

_MOST_PAGES = 10_000

_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Instances as stored: compressed instances stay compressed."""

_CHATTY = ("dicomweb_client", "requests", "retrying", "urllib3")
"""Loggers that repeat URLs and thus search terms, such as a patient."""


class Pacs:
    """A PACS that speaks DICOMweb.

    Args:
        access: Address and credentials of the PACS.
        timeout: Seconds without a byte after which an answer is abandoned.
        backoff: Retries of each request.
    """

    def __init__(
        self, access: Access, *, timeout: float = 60.0, backoff: Backoff | None = None
    ) -> None:
        self.url = access.url
        self.backoff = backoff or Backoff()
        self._timeout = (min(CONNECT_TIMEOUT, timeout), timeout)
        self._session = PacsSession(access)
        self._client = DICOMwebClient(access.url, session=self._session, timeout=self._timeout)
        # Our retries are used: theirs send an empty body on the second attempt of a large one.
        self._client.set_http_retry_params(retry=False)
        # It states the host without its port, and only half of an IPv6 address.
        self._client.host = urlsplit(access.url).netloc

    def find_studies(self, filters: Mapping[str, str]) -> tuple[list[str], int]:
        """Return the distinct UIDs of matching studies, and the number of results without a UID.

        Raises:
            PacsError: If the PACS gives no valid answer, or has no search at its URL.
        """

        def page(offset: int) -> Sequence[Answer]:
            try:
                return self._client.search_for_studies(
                    limit=_PAGE, offset=offset, search_filters=dict(filters)
                )
            except requests.HTTPError as error:
                if _says(error, 404) and offset == 0:
                    self._make_sure_of_search()
                raise

        found, refused = self._pages("the search for studies", page, STUDY)
        return list(found), refused

    def find_series(self, study_uid: str) -> tuple[list[Series], int]:
        """Return the series of a study, and the number of results without a UID.

        The list is empty if the PACS does not hold the study.

        Raises:
            PacsError: If the PACS gives no valid answer.
        """

        def page(offset: int) -> Sequence[Answer]:
            return self._client.search_for_series(
                study_uid, limit=_PAGE, offset=offset, fields=["NumberOfSeriesRelatedInstances"]
            )

        what = f"the search for series of study {study_uid}"
        found, refused = self._pages(what, page, SERIES)
        return [series_of(answer, study_uid) for answer in found.values()], refused

    def find_instances(self, series: Series) -> list[str]:
        """Return the sorted UIDs of the instances of a series.

        Raises:
            PacsError: If the PACS gives no valid answer.
        """

        def page(offset: int) -> Sequence[Answer]:
            return self._client.search_for_instances(
                series.study_uid, series.series_uid, limit=_PAGE, offset=offset
            )

        what = f"the search for instances of series {series.series_uid}"
        found, refused = self._pages(what, page, INSTANCE)
        if refused:
            raise no_uids(refused, "instances")
        return sorted(found)

    def fetch(self, series: Series, instance_uid: str, path: Path) -> None:
        """Save an instance as the PACS stores it.

        Raises:
            PacsError: If the PACS does not send the complete instance.
            OutputError: If the file cannot be written.
        """
        url = (
            f"{self.url}/studies/{series.study_uid}/series/{series.series_uid}"
            f"/instances/{instance_uid}"
        )

        def get() -> None:
            with (
                self._session.get(
                    url, headers={"Accept": _ACCEPT}, stream=True, timeout=self._timeout
                ) as response,
                path.open("wb") as file,
            ):
                response.raise_for_status()
                save_part(response, file)

        try:
            self._ask(f"instance {instance_uid}", get)
        except OSError as error:
            if isinstance(error, PacsError):
                raise
            raise output_error(path, error) from error

    def holds(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Whether the PACS lists an instance.

        Raises:
            PacsError: If the PACS does not answer.
        """
        return self._ask(
            f"the search for instance {instance_uid}",
            lambda: self._holds(study_uid, series_uid, instance_uid),
        )

    def store(self, dataset: Dataset) -> tuple[bool, tuple[str, ...]]:
        """Store an object, unless the PACS already holds one with its UID.

        This is checked before every attempt, because the object may arrive although the answer is
        lost.

        Returns:
            Whether the object was sent, and the warnings of the PACS.

        Raises:
            PacsRefusedError: If the PACS refuses the object.
            PacsError: If the PACS does not answer.
        """
        uids = dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID
        sent = False

        def post() -> tuple[str, ...]:
            nonlocal sent
            if self._holds(*uids):
                return ()
            sent = True
            try:
                answer = self._client.store_instances([dataset], study_instance_uid=uids[0])
            except requests.HTTPError as error:
                _refuse_failures(_json_of(error), uids[2])
                raise
            except (AttributeError, KeyError, TypeError, ValueError):
                answer = Dataset()  # not understood: what counts is that it is listed later
            _refuse_failures(answer, uids[2])
            return _warnings_of(answer)

        warnings = self._ask(f"storing instance {uids[2]}", post)
        return sent, warnings

    def _holds(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        try:
            answer = self._client.retrieve_instance_metadata(study_uid, series_uid, instance_uid)
        except requests.HTTPError as error:
            if _says(error, 404, 410):
                return False
            raise
        except IndexError:  # an empty list
            return False
        return value_of(answer, INSTANCE) == instance_uid

    def _pages(self, what: str, page: _Page, tag: str) -> tuple[dict[str, Answer], int]:
        """Return all results of a search by UID, and the number of results without one.

        Pages are requested until one contains nothing new.
        A short page does not mean the end, because servers have limits of their own. A server that
        always returns its first page is not asked forever.
        """
        found: dict[str, Answer] = {}
        refused: set[str] = set()
        offset = 0
        for _ in range(_MOST_PAGES):
            answers = self._ask(what, lambda: self._search(page, offset))  # noqa: B023  # called at once
            before = len(found) + len(refused)
            for answer in answers:
                uid = value_of(answer, tag)
                if is_uid(uid):
                    found[str(uid)] = answer
                else:
                    refused.add(repr(answer))
            if len(found) + len(refused) == before:
                return found, len(refused)
            offset += len(answers)
        msg = f"The PACS at {self.url} must finish {what}; it does not come to an end."
        raise PacsError(msg)

    def _make_sure_of_search(self) -> None:
        """Distinguish a server that sends 404 for no results from a URL without a search.

        Raises:
            PacsError: If a search for any study returns 404 as well.
        """
        try:
            self._client.search_for_studies(limit=1)
        except requests.HTTPError as error:
            if not _says(error, 404):
                raise
            msg = (
                f"url must be that of a DICOMweb service; {self.url} answers a search with "
                "status 404."
            )
            raise PacsError(msg) from None

    def _search(self, page: _Page, offset: int) -> Sequence[Answer]:
        try:
            answers = page(offset)
        except requests.HTTPError as error:
            # If nothing is found, some servers answer 404.
            if _says(error, 404):
                return []
            raise
        if not all(isinstance(answer, Mapping) for answer in answers):
            raise TypeError
        return answers

    def _ask(self, what: str, action: Callable[[], T]) -> T:
        """Perform an action on the PACS; any failure becomes one of our errors.

        Errors of the libraries quote URLs and answers, so their text is dropped.
        """
        try:
            with _silence():
                return self.backoff(action)
        except PacsError:
            raise
        except requests.HTTPError as error:
            raise _refusal(self.url, what, error) from None
        except (requests.RequestException, CutShortError) as error:
            msg = f"The PACS at {self.url} must answer {what}; got {reason_of(error)}."
            if isinstance(error, requests.exceptions.SSLError):
                msg += (
                    " Pass `ca_bundle`, `client_cert` if it asks for one, or an http URL if it has "
                    "no TLS."
                )
            raise PacsError(msg) from None
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            msg = f"The PACS at {self.url} must answer {what} as DICOMweb does; it does not."
            raise PacsError(msg) from None


def _says(error: requests.HTTPError, *statuses: int) -> bool:
    return error.response is not None and error.response.status_code in statuses


def _refusal(url: str, what: str, error: requests.HTTPError) -> PacsError:
    msg = f"The PACS at {url} must answer {what}; got {reason_of(error)}."
    status = None if error.response is None else error.response.status_code
    if status in (401, 403):
        return PacsAccessError(f"{msg} Check user and password, token or certificate.")
    return PacsError(msg)


def _json_of(error: requests.HTTPError) -> Dataset:
    """Return the data set in an error response; empty if there is none."""
    try:
        content = None if error.response is None else error.response.json()
        return Dataset.from_json(content) if isinstance(content, dict) else Dataset()
    except Exception:  # pydicom documents no errors for invalid DICOM JSON
        return Dataset()


def _refuse_failures(answer: Dataset, instance_uid: str) -> None:
    """Raise an error if the answer says that the instance was not stored."""
    for item in answer.get("FailedSOPSequence") or ():
        reason = item.get("FailureReason")
        told = f"failure reason {int(reason):04X}H" if isinstance(reason, int) else "no reason"
        msg = f"The PACS must take instance {instance_uid}; it refuses it with {told}."
        raise PacsRefusedError(msg)


def _warnings_of(answer: Dataset) -> tuple[str, ...]:
    reasons = [item.get("WarningReason") for item in answer.get("ReferencedSOPSequence") or ()]
    return tuple(
        f"The PACS stored it with warning {reason:04X}H."
        for reason in reasons
        if isinstance(reason, int) and reason
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Silence libraries that log URLs and warn with values."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with quietly():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
