"""Checkpoints: their files, the state in them, which stay, and when they are made."""
