"""Disks that are full, and folders in which nothing can be written."""

import contextlib
import os
import subprocess
import sys

import pytest


def mount(*arguments):
    """Mounts something, or skips the test where that cannot be done."""
    if os.geteuid() or not sys.platform.startswith("linux"):
        pytest.skip("only root may mount a small disk, on Linux")
    command = ["mount", *map(str, arguments)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")


@contextlib.contextmanager
def small_disk(folder, options):
    """Makes a folder, within the block, a small disk of its own."""
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder):
    """Makes a folder, within the block, one in which nobody can write, root included."""
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
