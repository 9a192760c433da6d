"""Programs that the tests start as ranks, one module each."""
