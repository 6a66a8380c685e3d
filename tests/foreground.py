"""A program of others that runs in the foreground while a test needs it, waited for until it says that it is ready."""

import os
import signal
import subprocess
import threading

_READY_SECONDS = 60.0


class Foreground:
    """One process with its children. Subclasses say which."""

    ready_words: str  # are in the line that it says when it listens

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        """How it is started. Raises pytest's skip where there is none."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it listens."""
        ready = threading.Event()
        self._process = subprocess.Popen(
            self.command(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "TZ": "UTC"},
        )
        lines: list[str] = []

        def read(process: "subprocess.Popen[str]") -> None:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    lines.append(line)
                    if self.ready_words in line:
                        ready.set()
            ready.set()

        threading.Thread(target=read, args=(self._process,), daemon=True).start()
        assert ready.wait(_READY_SECONDS), "".join(lines)
        assert self._process.poll() is None, "".join(lines)

    def kill(self) -> None:
        """End it with its children, without a word."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
