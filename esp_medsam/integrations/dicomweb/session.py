"""HTTP session with a PACS: no environment settings, no redirects."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests

from esp_medsam.integrations.dicomweb.access import Access


_PLAIN = {"%2A": "*", "%3F": "?", "%2C": ",", "%3A": ":", "+": "%20"}
"""Characters a query may contain unencoded, RFC 3986 3.4; Orthanc 1.10 and others do not decode it.

A plus means a space only in forms; a plus in a search term is ``%2B`` here.
"""


class PacsSession(requests.Session):
    """A session with one PACS.

    Nothing is read from the process's environment: no proxy, no ``.netrc``, no other
    certificates. Redirects are not followed, as they send credentials and patient data elsewhere.
    """

    def __init__(self, access: Access) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = 0
        self.auth = access.auth
        self.cert = access.cert
        self.verify = access.ca_bundle or True
        self.headers["Accept"] = "application/dicom+json"  # format of STOW responses

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Return a request whose query has unencoded wildcards."""
        prepared: Any = super().prepare_request(request)
        parts = urlsplit(prepared.url)
        query = parts.query
        for encoded, plain in _PLAIN.items():
            query = query.replace(encoded, plain)
        prepared.url = parts._replace(query=query).geturl()
        return prepared  # type: ignore[no-any-return]
