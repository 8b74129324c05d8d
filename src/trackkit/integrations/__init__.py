"""Where TrackKit plugs in, one file each: who trains (lightning, huggingface), where rows go (wandb, local, memory)."""
