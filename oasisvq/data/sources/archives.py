"""Reads OASIS-1 and OASIS-2 from their archives, packed or unpacked."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from oasisvq.core.errors import ArchiveError, VolumeError
from oasisvq.data import acquire, oasis
from oasisvq.data.acquire import Archive
from oasisvq.data.filenames import is_wanted
from oasisvq.data.oasis import OASIS1, Session
from oasisvq.data.sources import base
from oasisvq.data.sources.base import BadScan, Finding, FinishedArchive, Scan, Shard
from oasisvq.data.volumes import Volume, cut_volume


class Archives(base.Source):
    """One or both collections of OASIS."""

    strict_sheets = True

    def __init__(self, config: Any, data_dir: Path):
        self.name, self.config, self.data_dir = config.dataset, config, data_dir
        self.count = None  # the number of sessions is unknown until the archives are read
        self.archives = acquire.choose_archives(self.name, config.disc_numbers, data_dir)
        files = [
            f"{place.name}/{inside} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for archive in self.archives
            if archive.path and archive.path.is_dir()
            for place in oasis.session_folders(archive.path, archive.collection)
            for path, inside in oasis.wanted_files(place, self._image(archive))
        ]
        self.fingerprint = ["archives 2", *self.needed(), *files]

    def _image(self, archive: Archive) -> tuple[str, str]:
        """Returns the wanted image of an archive's sessions, see `oasis.image_of`."""
        return oasis.image_of(archive.collection, self.config.oasis1_image)

    def needed(self) -> list[str]:
        """Returns the names of the archives, the keys under which finished ones are recorded."""
        return [archive.name for archive in self.archives]

    def describe(self) -> list[str]:
        """Returns a line on each archive: where it is, or that it is to be downloaded."""
        places = [(archive.name, archive.path or "to be downloaded") for archive in self.archives]
        return [f"{name}: {place}" for name, place in places]

    def records(self) -> dict[str, dict]:
        paths = {archive.name: archive.path for archive in self.archives if archive.path}
        return {n: acquire.archive_record(path) for n, path in paths.items() if path.is_file()}

    def sheets(self, fetch: bool) -> list[Path]:
        find = acquire.find_or_fetch_sheet if fetch else oasis.find_sheet
        paths = [find(self.data_dir, collection) for collection in oasis.COLLECTIONS[self.name]]
        return [path for path in paths if path]

    def scans(self, store: Any, shard: Shard = base.WHOLE) -> Iterator[Finding]:
        """Yields the scans that a `Store` lacks, and downloads later archives meanwhile."""
        archives = shard.of(self.archives)
        lacking = [archive for archive in archives if archive.name not in store]
        acquire.announce(lacking, self.data_dir)
        archives = [archive for archive in archives if archive.path or archive in lacking]
        for archive, record in acquire.supplied(archives, self.data_dir):
            origin = (archive.name, record.get("sha256"))
            store.forget_others(*origin)
            if archive.name not in store:
                path = archive.path or self.data_dir / archive.name
                yield from self._scans_of(archive, path, origin, store)
                yield FinishedArchive(archive.name, record, origin)

    def _scans_of(
        self, archive: Archive, path: Path, origin: tuple, store: Any
    ) -> Iterator[Finding]:
        """Yields the scans of one archive that a `Store` lacks."""
        read = oasis.sessions_in_folder if path.is_dir() else oasis.sessions_in_archive
        sessions = read(path, archive.collection, self._image(archive), store)
        sessions = (session for session in sessions if session.name not in store)
        sessions = (s for s in sessions if is_wanted(PurePath(s.name), self.config))
        try:
            yield from base.in_parallel(functools.partial(self._scan, archive, origin), sessions)
        except ArchiveError:  # the sessions before the damage may be damaged too
            store.forget_others(archive.name, None)
            acquire.forget_record(path)
            raise

    def _scan(self, archive: Archive, origin: tuple, session: Session) -> Finding:
        """Returns the slices of a session as a `Scan`, or a `BadScan` with the reason."""
        config, collection = self.config, archive.collection
        try:
            volumes, names, notes = oasis.volumes_of(session, self._image(archive))
            if collection is OASIS1 and config.oasis1_image != "raw" and len(volumes) > 1:
                raise VolumeError(
                    f"{session.name}: expected one {config.oasis1_image} image. Received: "
                    f"{', '.join(names)}. Take out the wrong ones"
                )
            volume = volumes[0]
            if collection is not OASIS1 or len(volumes) > 1:
                volume, left_out = self._register(volumes, names, session.name, collection)
                notes += [f"{name}: left out of the mean of its session" for name in left_out]
            slices = cut_volume(volume, config, session.name)
        except VolumeError as error:
            return BadScan(session.name, str(error), origin)
        subject, _, visit = session.name.rpartition("_")
        who = session.name, subject, visit, "", config.plane
        return Scan(*who, *slices, collection.name, notes, origin)

    def _register(
        self, volumes: list[Volume], names: list[str], session: str, collection: oasis.Collection
    ) -> tuple[Volume, list[str]]:
        """Returns the mean of a session's scans, and the names of the scans that were left out.

        A raw head of OASIS-2 is brought to the form of the chosen image of OASIS-1: registered to
        the atlas or only aligned with it, without the skull or whole.
        """
        registration = base.registration()
        kind = self.config.oasis1_image
        volume, left_out = registration.average_repeats(volumes, names)
        if collection is not OASIS1:
            volume = registration.to_atlas(volume, session, scaling=kind.startswith("t88"))
            if kind == "t88_masked_gfc":
                brain = volume.voxels * registration.brain_mask()
                volume = dataclasses.replace(volume, voxels=brain)
        return volume, left_out
