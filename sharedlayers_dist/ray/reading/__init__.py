"""Actors that read and encode the pairs for the trainers."""
