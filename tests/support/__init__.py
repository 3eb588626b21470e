"""What tests of several places make: networks, images, files and commands."""
