"""Imported before onnxruntime ever is: from 1.29 on its wheels report the models they run to Microsoft, and keep an
identifier and a database for it in the home folder (`Privacy.md` in its package). Nothing of a bench is reported, no
board writes or sends for it, and an agent's end waits for no upload: it took more than 6 s with a network that
swallows packets. Whoever wants the reports sets the variable to 0.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
