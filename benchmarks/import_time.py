"""Measures how long `import trackkit` takes: the best of ten fresh interpreters, in ms.

python benchmarks/import_time.py
"""

from __future__ import annotations

import subprocess
import sys

CODE = "import time; t = time.perf_counter(); import trackkit; print((time.perf_counter() - t) * 1e3)"

times = [float(subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True).stdout) for _ in range(10)]
print(f"best {min(times):.1f} ms of {', '.join(f'{each:.1f}' for each in times)}")
