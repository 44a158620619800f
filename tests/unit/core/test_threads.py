"""Within the context NumPy's products take one thread, and after it as many as before."""

import numpy as np
from threadpoolctl import threadpool_info

from oasisvq.core.threads import one_blas_thread


def blas_threads():
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]


def test_products_take_one_thread_within_the_context_only():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas_threads()
    with one_blas_thread():
        assert before
        assert set(blas_threads()) == {1}
    assert blas_threads() == before
