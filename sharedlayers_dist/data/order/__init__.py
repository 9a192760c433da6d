"""Which rows make which batch, on which rank: pure NumPy, no file is touched."""
