"""Export a network for programs that do not have this package, or the bundle as a zip."""
