"""Segment the items of a run on a Ray cluster; needs the extra ``ray``."""
