"""Limits how many threads NumPy takes."""

import functools
from contextlib import AbstractContextManager

from threadpoolctl import ThreadpoolController

# Looking for the libraries takes as long as scoring some slices, so it is done once.
_libraries = functools.cache(ThreadpoolController)


def one_blas_thread() -> AbstractContextManager:
    """Returns a context in which NumPy's products take one thread: small ones are faster then."""
    return _libraries().limit(limits=1, user_api="blas")
