"""Builds archives of OASIS in their true layout, small enough for tests.

The images are big-endian Analyze with a trailing axis of one and no orientation in any header;
previews, label maps and stray files lie beside them.
"""

import gzip
import io
import tarfile

import nibabel
import numpy as np

FILE_AXES = {"LAS": (0, 1, 2), "ASL": (1, 2, 0)}  # which RAS axis each file axis follows


def analyze(voxels, axes, sizes=(1.0, 1.0, 1.0)):
    """Returns RAS voxels as the bytes of a `.hdr` and an `.img`, with the axes of OASIS."""
    order = FILE_AXES[axes]
    data = voxels[::-1].transpose(order)[..., None]  # left is the far end of RAS's first axis
    header = nibabel.Spm2AnalyzeImage.header_class(endianness=">")
    header.set_data_dtype(">i2")
    header.set_data_shape(data.shape)
    header.set_zooms([*(sizes[axis] for axis in order), 1])
    return header.binaryblock, data.astype(">i2").tobytes(order="F")


def oasis1_session(name, head, brain=None, count=4, raw=None):
    """Returns the files of a session of OASIS-1: a dictionary from path in its folder to bytes.

    Args:
        name: As `OAS1_0001_MR1`.
        head: RAS voxels of the atlas image.
        brain: Those without the skull. Defaults to `head`.
        count: How many scans were averaged, the number behind `n`.
        raw: RAS voxels of the scan before registration. Defaults to `head`.
    """
    brain = head if brain is None else brain
    raw = head if raw is None else raw
    atlas = f"PROCESSED/MPRAGE/T88_111/{name}_mpr_n{count}_anon_111_t88"
    subject = f"PROCESSED/MPRAGE/SUBJ_111/{name}_mpr_n{count}_anon_sbj_111"
    files = {f"{name}.txt": b"SESSION ID: " + name.encode(), f"{name}.xml": b"<xml/>"}
    for scan in range(1, count + 1):
        files |= _pair(f"RAW/{name}_mpr-{scan}_anon", analyze(raw, "ASL", (1.25, 1, 1)))
        files[f"RAW/{name}_mpr-{scan}_anon_sag_66.gif"] = b"GIF89a"
    files |= _pair(subject, analyze(raw, "ASL"))
    files |= _pair(f"{atlas}_gfc", analyze(head, "LAS"))
    files[f"{atlas}_gfc_cor_110.gif"] = b"GIF89a"
    files |= _pair(f"{atlas}_masked_gfc", analyze(brain, "LAS"))
    labels = f"FSL_SEG/{name}_mpr_n{count}_anon_111_t88_masked_gfc_fseg"
    return files | _pair(labels, analyze((brain > 0) * 2, "LAS")) | {f"{labels}.txt": b"1 2 3"}


def oasis2_session(repeats, spacing=1.25):
    """Returns the files of a session of OASIS-2: raw scans only, and a stray one."""
    files = {}
    for number, repeat in enumerate(repeats, 1):
        files |= _pair(f"RAW/mpr-{number}.nifti", analyze(repeat, "ASL", (spacing, 1, 1)))
    return files | {"RAW/3906-3.nift.img": b"stray"}


def _pair(stem, blobs):
    return {f"{stem}.hdr": blobs[0], f"{stem}.img": blobs[1]}


def write_archive(path, folder, sessions, level=1, stray=True):
    """Packs sessions, a dictionary from name to files, into a `.tar.gz`, and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        gzip.GzipFile(path, "wb", level, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        if stray:
            add(archive, f"{folder}/.DS_Store", b"stray")
        for name, files in sessions.items():
            directory = tarfile.TarInfo(f"{folder}/{name}")
            directory.type = tarfile.DIRTYPE
            archive.addfile(directory)
            for inside, data in files.items():
                add(archive, f"{folder}/{name}/{inside}", data)
    return path


def add(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def unpack(folder, sessions):
    """Writes sessions as files, as someone who unpacks an archive has them."""
    for name, files in sessions.items():
        for inside, data in files.items():
            path = folder / name / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def phantom(shape=(22, 26, 22), number=0):
    """Returns an asymmetric RAS head amid black; `number` makes it another one.

    Each octant has a value of its own, 100 times 1 + 1 right + 2 front + 4 top.
    """
    x, y, z = np.indices(shape)
    right, front, top = (axis >= size / 2 for axis, size in zip((x, y, z), shape, strict=True))
    inside = (
        sum(
            ((axis - (size - 1) / 2) / (size / 2.3)) ** 2
            for axis, size in zip((x, y, z), shape, strict=True)
        )
        < 1
    )
    return ((1 + right + 2 * front + 4 * top) * 100 + number) * inside
