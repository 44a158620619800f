"""An array that is written block by block."""

import numpy as np

from oasisvq.core.arrays import write_array


def test_an_array_written_in_blocks_is_read_as_one(tmp_path, random):
    array = random.integers(0, 256, (7, 5, 3), np.uint8)
    write_array(tmp_path / "array.npy", array.shape, np.array_split(array, 3))
    read = np.load(tmp_path / "array.npy", allow_pickle=False)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)
