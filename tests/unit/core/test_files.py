"""Files are whole or not there: after an error, a kill, a full disk, a limit on their size."""

import contextlib
import hashlib
import resource
import threading

import filelock
import h5py
import keras
import numpy as np
import pytest

from oasisvq.core.arrays import write_array
from oasisvq.core.errors import WriteError
from oasisvq.core.files import (
    PARTIAL,
    one_at_a_time,
    save_weights,
    sha256,
    sweep,
    whole_file,
    write_text,
)
from stress import write_loops
from support.disks import read_only


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "text.txt"
    with whole_file(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
        assert partial.parent == path.parent
        assert partial.suffix == ".txt"
    assert path.read_text() == "whole"
    assert [entry.name for entry in path.parent.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "text.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as partial:
        partial.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@contextlib.contextmanager
def size_limit(size):
    """Within it, no file of this process may grow above so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def save_network(path):
    model = keras.Sequential([keras.layers.Input((200,)), keras.layers.Dense(300)])
    save_weights(model, path)


WRITERS = {
    "facts.json": lambda path: write_text(path, {"numbers": list(range(20_000))}),
    "slices.npy": lambda path: write_array(path, (9, 100, 100), np.zeros((9, 100, 100), np.uint8)),
    "best.weights.h5": save_network,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_limit_on_size_is_one_line_and_the_old_file_stays(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")
    with (
        size_limit(40_000),
        pytest.raises(WriteError, match=f"{name}: cannot be written") as refused,
    ):
        WRITERS[name](path)
    assert "\n" not in str(refused.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_the_old_file_stays(full_disk, name):
    path = full_disk / name
    path.write_text("old")
    with pytest.raises(WriteError, match=f"{name}: cannot be written"):
        WRITERS[name](path)
    assert path.read_text() == "old"
    assert list(full_disk.iterdir()) == [path]


@pytest.mark.slow
def test_kills_in_write_loops_leave_whole_files_and_no_litter_after_a_sweep(tmp_path):
    # On a busy machine all kills may fall between two files: then there are more.
    assert any(write_loops.kill_writers(tmp_path, kills=4, seed=seed) for seed in range(50))


def test_only_what_is_half_written_is_swept(tmp_path):
    for name in ("kept.txt", "sub/.hidden", f"sub/{PARTIAL}.lost.png", f"{PARTIAL}.lost.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    found = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"kept.txt", ".hidden"}


def test_two_owners_write_one_path_without_touching_each_other(tmp_path):
    path = tmp_path / "text.txt"
    with whole_file(path, "one") as first, whole_file(path, "two") as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # which ended last
    assert list(tmp_path.iterdir()) == [path]


def test_a_hash_is_of_the_whole_file(tmp_path):
    content = bytes(range(256)) * 3000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_lock_that_another_has_is_named_and_the_waiting_can_be_cancelled(tmp_path, capsys):
    path, cancelled = tmp_path / "lock", threading.Event()
    cancelled.set()
    holder = filelock.FileLock(path, thread_local=False)
    thread = threading.Thread(target=holder.acquire)  # filelock lets no thread wait for itself
    thread.start()
    thread.join()
    with pytest.raises(filelock.Timeout), one_at_a_time(path, "downloads disc 1", cancelled):
        pytest.fail("both have the lock")
    assert capsys.readouterr().err == "Waiting for another process that downloads disc 1\n"
    holder.release()
    with one_at_a_time(path, "downloads disc 1"), pytest.raises(filelock.Timeout):
        filelock.FileLock(path).acquire(timeout=0)
    assert capsys.readouterr().err == ""
    filelock.FileLock(path).acquire(timeout=0)


def test_weights_are_saved_without_the_optimizer_which_stays(tmp_path):
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4)])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 3)), np.ones((2, 4)), verbose=0)
    optimizer = model.optimizer
    save_weights(model, tmp_path / "best.weights.h5")
    assert model.optimizer is optimizer
    with h5py.File(tmp_path / "best.weights.h5") as file:
        assert "optimizer" not in file
        assert "layers" in file


def test_a_lock_that_cannot_be_made_is_one_line(tmp_path):
    with (
        read_only(tmp_path),
        pytest.raises(WriteError, match="lock: cannot be locked"),
        one_at_a_time(tmp_path / "lock", "tests"),
    ):
        pytest.fail("it has the lock")
