"""That this process was told to end: what may take long by somebody else's fault ends soon then."""

from __future__ import annotations

import threading

stopping = threading.Event()
