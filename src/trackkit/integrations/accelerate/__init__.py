"""Records trainings of Accelerate: what they log, and with one more line what they do."""
