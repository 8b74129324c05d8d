"""What becomes of the checkpoints that a framework saves: staged, hashed, uploaded, named, retained. No backend."""
