"""The esp-medsam command, one file per subcommand. Only this package prints."""
