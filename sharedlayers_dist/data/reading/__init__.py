"""Reading one rank's share of the batches."""
