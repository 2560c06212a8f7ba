"""TensorFlow, imported without two notices that its libraries write before their logging can be told to be quiet."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

NOTICES = (
    "All log messages before absl::InitializeLog()",
    "oneDNN custom operations are on.",  # and shall stay on: switching them off changes the numbers
    "Could not find cuda drivers on your machine",
)


@contextmanager
def without_notices() -> Iterator[None]:
    """What is written to file descriptor 2 inside comes out at the end, but for the lines with a notice.

    TF_CPP_MIN_LOG_LEVEL does not reach them: native code writes them to the descriptor itself.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            for line in said.read().decode(errors="replace").splitlines(keepends=True):
                if not any(notice in line for notice in NOTICES):
                    os.write(2, line.encode())
