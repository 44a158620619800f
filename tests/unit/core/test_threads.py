"""Threads share blocks of rows; within its context NumPy takes one thread, after it as many."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from oasisvq.core.threads import in_blocks, one_blas_thread


def blas_threads():
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]


def test_products_take_one_thread_within_the_context_only():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas_threads()
    with one_blas_thread():
        assert before
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_blocks_come_in_order_each_row_once_and_in_other_threads():
    def share(numbers, letters):
        assert 0 < len(numbers) == len(letters) <= 3
        return list(zip(numbers.tolist(), letters.tolist(), strict=True)), threading.get_ident()

    numbers, letters = np.arange(8), np.array(list("abcdefgh"))
    blocks, threads = zip(*in_blocks(share, numbers, letters, size=3), strict=True)
    assert [len(block) for block in blocks] == [3, 3, 2]
    assert [pair for block in blocks for pair in block] == list(
        zip(range(8), "abcdefgh", strict=True)
    )
    assert threading.get_ident() not in threads


def test_an_error_in_a_block_is_raised():
    with pytest.raises(ZeroDivisionError):
        in_blocks(lambda numbers: 1 // int(numbers[0] - 4), np.arange(8), size=4)
