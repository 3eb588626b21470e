"""From PACS to PACS over DICOMweb: find series, fetch, segment, and store what was found."""
