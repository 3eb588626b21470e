"""From PACS to PACS over DICOMweb: find series, fetch, segment, and store what was found."""

from __future__ import annotations

from esp_medsam.integrations.dicomweb.access import Access, read_access
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.run import PacsResult, PacsRun, line_of, summary
from esp_medsam.integrations.dicomweb.spool import Spool, default_spool
from esp_medsam.integrations.dicomweb.store import resend
from esp_medsam.integrations.dicomweb.work import work_folder


__all__ = [
    "Access",
    "Pacs",
    "PacsResult",
    "PacsRun",
    "Spool",
    "default_spool",
    "line_of",
    "read_access",
    "resend",
    "summary",
    "work_folder",
]
