"""Plain loops: `trackkit.loop`, and `trackkit.init` for loops that log by themselves."""
