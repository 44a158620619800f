"""Arrays that need not fit into memory: written block by block, or in a temporary file."""

import os
import tempfile

import numpy as np
import pytest

from oasisvq.core.arrays import array_on_disk, write_array
from oasisvq.core.errors import WriteError
from support.processes import start_python


def test_an_array_written_in_blocks_is_read_as_one(tmp_path, random):
    array = random.integers(0, 256, (7, 5, 3), np.uint8)
    write_array(tmp_path / "array.npy", array.shape, np.array_split(array, 3))
    read = np.load(tmp_path / "array.npy", allow_pickle=False)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, array)


@pytest.fixture(params=["reserved", "written"])
def way(request, monkeypatch):
    """Runs a test with what reserves room on a disk, and without."""
    if request.param == "written":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    return request.param


def test_a_temporary_array_holds_zeros_and_what_is_put_there(way):
    array = array_on_disk((3, 1000, 700))
    assert (array.shape, array.dtype, array.any()) == ((3, 1000, 700), np.uint8, False)
    array[1] = 7
    assert array.sum() == 7 * 700_000


def test_a_temporary_array_without_room_is_refused(way, full_disk, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    with pytest.raises(WriteError, match=f"{full_disk}: cannot hold .* 1,000,000 bytes .*TMPDIR"):
        array_on_disk((100, 100, 100))
    assert not list(full_disk.iterdir())


def test_a_full_temporary_disk_kills_no_process(full_disk):
    code = (
        "from oasisvq.core.arrays import array_on_disk as make\n"
        "from oasisvq.core.errors import WriteError\n"
        "try: make((10, 100, 100))[:] = 1\n"
        "except WriteError: print('refused')"
    )
    with start_python("-c", code, TMPDIR=str(full_disk)) as process:
        assert process.communicate() == ("refused\n", "")
