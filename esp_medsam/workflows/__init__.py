"""What a user runs. Import the workflow's own module: commands must start fast."""
