"""`trackkit run`: starts any command with TrackKit known to the Python processes that it starts."""
