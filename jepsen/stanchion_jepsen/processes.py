"""Starting and ending processes: only those started here, only by their own handle.

Never kills by name, never kills what it did not start. `Process` remembers whether its end was asked for, so that a process
that ends by itself is found out. Used by `cluster` and `workers`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path


class HarnessError(Exception):
    """The test could not be carried out. Says nothing about the system under test."""


class Process:
    """A child process with its output in a file; may be started again after it ended."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.environment = environment
        self.child: subprocess.Popen | None = None
        self.starts = 0
        self._asked = True
        self.deaths: list[str] = []

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.poll() is None

    def start(self) -> None:
        self.notice_death()
        assert not self.running, f"{self.name} runs already"
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(self.environment or {})},
                # Its own group: an interrupt at the terminal ends the harness, and the harness ends its children.
                start_new_session=True,
            )
        self.starts += 1
        self._asked = False

    def notice_death(self) -> None:
        """Records an end that nobody asked for, once."""
        if self.child is not None and not self._asked and self.child.poll() is not None:
            self._asked = True
            self.deaths.append(f"{self.name} (pid {self.child.pid}) ended by itself with {self.child.returncode}; see {self.log}: {self.tail()}")

    def tail(self, size: int = 600) -> str:
        try:
            data = self.log.read_bytes()
        except OSError:
            return ""
        return data[-size:].decode(errors="replace").strip().replace("\n", " | ")

    def kill(self) -> None:
        """kill -9, and waits until the kernel has taken it away."""
        if self.kill_without_waiting():
            self.child.wait()

    def kill_without_waiting(self) -> bool:
        """kill -9; whether there was anything to kill."""
        self.notice_death()
        if not self.running:
            return False
        self._asked = True
        self.child.send_signal(signal.SIGKILL)
        return True

    def pause(self) -> None:
        """SIGSTOP: to everybody else it looks like a machine that hangs; to itself, like a clock that jumps."""
        if self.running:
            self.child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.running:
            self.child.send_signal(signal.SIGCONT)

    async def terminate(self, within_s: float) -> float:
        """SIGTERM; seconds until it was gone. A process that outlives the bound is killed, which is a finding."""
        self.notice_death()
        if not self.running:
            return 0.0
        self._asked = True
        begin = time.monotonic()
        self.child.terminate()
        while self.child.poll() is None:
            if time.monotonic() - begin > within_s:
                self.deaths.append(f"{self.name} (pid {self.child.pid}) did not end within {within_s} s of SIGTERM")
                self.child.kill()
                self.child.wait()
                break
            await asyncio.sleep(0.02)
        return time.monotonic() - begin


_PORTS_TAKEN: set[int] = set()


def free_port() -> int:
    """A free loopback port below the range from which the kernel takes ports for outgoing connections, so that a node that is
    down finds its port free when it comes back."""
    for _ in range(1000):
        port = random.randint(15000, 29999)
        if port in _PORTS_TAKEN:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _PORTS_TAKEN.add(port)
        return port
    raise HarnessError("no free port between 15000 and 29999")
