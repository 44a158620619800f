"""Reads mutations of one volume, in a process of its own so that its memory can be measured.

python header_fuzz.py VOLUME COUNT EVERY: of so many mutations, only every so many are read.

Prints how many were read, how many refused, and by how many MB the process grew.
"""

import resource
import sys
from pathlib import Path

import numpy as np
from isal import igzip

from oasisvq.core.errors import VolumeError
from oasisvq.data.volumes import read_header, read_volume

FIELDS = (40, 42, 44, 46, 48, 70, 72, 76, 80, 108, 112, 116, 252, 254, 256, 280, 344)  # NIfTI-1's
TYPES = ("<i2", ">i2", "<i4", "u1", "<f4", ">f4")
VALUES = (0, 1, 2, 3, 4, 7, 8, 64, 127, 255, 256, 32767, 2**31 - 1, -1, -32768, 1e30, np.nan)


def mutated(whole, random):
    """A copy of a file's bytes with one to three faults, most of them in header fields."""
    data = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        kind = random.choice(["cut", "longer", *TYPES])
        if kind == "cut":
            del data[random.integers(len(data) + 1) :]
        elif kind == "longer":
            data += bytes(random.integers(1, 99))
        else:
            with np.errstate(all="ignore"):
                new = np.array(VALUES[random.integers(len(VALUES))], float).astype(kind).tobytes()
            at = random.choice(FIELDS) if random.random() < 0.5 else random.integers(352)
            data[at : at + len(new)] = new
    return bytes(data)


def main():
    path, count, every = Path(sys.argv[1]), *map(int, sys.argv[2:])
    random = np.random.default_rng(0)
    packed = path.suffix == ".gz"
    whole = igzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    true_shape = sorted(read_volume(path).voxels.shape)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = refused = 0
    for number in range(count):
        data = mutated(whole, random)
        if number % every:
            continue
        path.write_bytes(igzip.compress(data, 0) if packed else data)
        try:
            volume = read_volume(path)
        except VolumeError as error:
            assert path.name in str(error), error
            refused += 1
        else:
            # A mutated affine may turn the axes, but never lose a voxel.
            assert sorted(volume.voxels.shape) == true_shape, volume.voxels.shape
            assert np.isfinite(volume.voxels).all()
            assert read_header(path) == volume.header
            read += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KB
    print(read, refused, grown // 1024)


main()
