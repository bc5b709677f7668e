"""The process in which TensorFlow reads checkpoints, as the rest of the program sees it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import safetensors.numpy

from algorithm.tf.importing import check_tensorflow
from utils.errors import CheckpointError, ConfigError

PROGRAM = f"{__package__}.reader"       # in a wheel the package has another name in front
SECONDS = 600                           # for one answer; processor time has a limit of its own


class Reader:
    """Runs `algorithm.tf.reader`: it starts with the first checkpoint, serves the following ones, and may die.

    To import TensorFlow takes seconds, so a command has one such process. After a death the next checkpoint starts
    another one.
    """

    def __init__(self):
        self.process: subprocess.Popen | None = None
        self.lock = threading.Lock()

    def read(self, prefix: str) -> dict[str, np.ndarray]:
        """Every variable of a checkpoint by name.

        Raises:
            CheckpointError: TensorFlow could not read it, or died of it.
            ConfigError: TensorFlow is not installed, or cannot be imported.
        """
        check_tensorflow()
        with self.lock:
            try:
                if self.process is None:
                    self._start()
                reply, data = self._ask(prefix)
            except BaseException:                       # after an interrupt, too, its answer has no reader any more
                self.close()
                raise
        if "error" in reply:
            raise CheckpointError(reply["error"])
        return safetensors.numpy.load(data)

    def close(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process is not None:
            atexit.unregister(self.close)
            process.kill()
            process.communicate()

    def _start(self) -> None:
        """Raises ConfigError if TensorFlow cannot be imported."""
        # It finds modules where this process finds them; -P: not in the working directory besides.
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        self.process = subprocess.Popen([sys.executable, "-P", "-m", PROGRAM], env=os.environ | {"PYTHONPATH": paths},
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        atexit.register(self.close)
        reply, _ = self._answer()
        if "error" in reply:
            raise ConfigError(reply["error"])

    def _ask(self, prefix: str) -> tuple[dict, bytes]:
        with contextlib.suppress(BrokenPipeError):      # it has died; the answer says so
            self.process.stdin.write(json.dumps(prefix).encode() + b"\n")
            self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> tuple[dict, bytes]:
        """Return the answer of `reader.main`, and the bytes that follow it."""
        timer = threading.Timer(SECONDS, self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            line = self.process.stdout.readline()
            if not line.endswith(b"\n"):
                return {"error": self._ended()}, b""
            reply = json.loads(line)
            return reply, self.process.stdout.read(reply.get("bytes", 0))
        finally:
            timer.cancel()

    def _ended(self) -> str:
        """How the process has ended, which closed its standard output."""
        process = self.process
        process.wait()
        self.close()
        names = {number.value: number.name for number in signal.Signals}
        how = names.get(-process.returncode, f"exit code {process.returncode}")
        return f"damaged, or not a checkpoint (TensorFlow's process ended by {how})"


READER = Reader()
