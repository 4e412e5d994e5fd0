"""`medray serve` in a process of its own."""

import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from serving import ward


class Running:
    """The process, its file, and what it said."""

    def __init__(self, folder: Path, models: Sequence[Mapping[str, Any]], **more: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder, self.port = folder, port
        self.url = f"http{'s' if 'tls' in more else ''}://127.0.0.1:{port}"
        self.file = ward(folder, models, port=port, **more)
        self.log = folder / "serve.log"
        command = [sys.executable, "-m", "medray", "serve", str(self.file)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def wait(self, seconds: float = 180, trust: ssl.SSLContext | None = None) -> None:
        """Until it answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", verify=trust or True).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(self.log.read_text())

    def end(self) -> int:
        """Ctrl-C, as a process manager says it; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def kill(self) -> None:
        """End it if it runs."""
        if self.process.poll() is None:
            self.end()
