"""Where TrackKit plugs in, a room each: who trains (lightning, huggingface), where rows go (wandb, local, memory)."""
