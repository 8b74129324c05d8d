"""What is wrong with a run: small detectors, each with its rule, threshold and source, and the list of them."""
