"""Gate checks, one file each; the configuration finds them here."""
