"""How many threads the matrix products of a process take, said before NumPy is imported, which asks when it is loaded."""

from __future__ import annotations

import os

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of the wheels, and of conda's builds


def one_thread() -> None:
    """For a process that answers requests, and those that it starts: what the operator has set stays.

    Its products are small. More threads would make none of them faster, and wait for the next one in a busy loop that takes a core
    from the requests.
    """
    for name in VARIABLES:
        os.environ.setdefault(name, "1")
