"""Opens, resumes and ends runs: which run, which folder, signals, identity."""
