"""From one rank's gradients to one step of all ranks."""
