"""An app for MONAI Label's server: segmentation as annotation clients ask for it.

Only ``esp-medsam label`` needs nothing of MONAI Label: it prepares a folder for the app and starts
the server in an environment of its own. What runs in that server is in ``app`` and ``server``.
"""
