"""What an item is: how the values of a column become the items of a batch, one kind a file."""
