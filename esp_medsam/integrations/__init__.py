"""Optional parts, each behind an extra of its own: what they import is not a base dependency."""
