"""The Weights & Biases backend. Importing it imports none of its modules: a command needs one, a training another."""
