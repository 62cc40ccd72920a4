"""Training objectives, one file each; the configuration finds them here."""
