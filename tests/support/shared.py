"""What is expensive to make, made once although several processes run the tests."""

import os

from filelock import FileLock


def made_once(tmp_path_factory, name, make):
    """Returns a folder that whichever process needs it first fills by `make(folder)`.

    Under pytest-xdist the other processes wait for it, and share it: they must not change it.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of the folders of all processes
    folder, done = base / name, base / f"{name}.done"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
