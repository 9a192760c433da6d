"""Making pair datasets from labelled items."""
