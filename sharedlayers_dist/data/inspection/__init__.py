"""What is in a pair dataset, and what is wrong with it."""
