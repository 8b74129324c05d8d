"""The Weights & Biases backend. None of its rooms is imported with it: a command needs one, a training another."""
