"""Keras callbacks whose outcome is the same on all ranks."""
