"""DICOMweb: find series in a PACS, fetch and segment them, and store the results."""
