"""A toy framework and a toy backend, plugged in from outside of `src`."""
