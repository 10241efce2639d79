"""What fits this library to programs and frameworks that were not written for it."""
