"""OASIS-1 and OASIS-2, from their archives or from what was unpacked of them."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oasisvq.core.errors import ArchiveError, VolumeError
from oasisvq.data import acquire, oasis
from oasisvq.data.acquire import Part
from oasisvq.data.oasis import OASIS1, Session
from oasisvq.data.sources import base
from oasisvq.data.sources.base import BadScan, Finding, FinishedPart, Scan, Shard
from oasisvq.data.volumes import Volume, cut_volume


class Archives(base.Source):
    """One or both collections of OASIS."""

    def __init__(self, config: Any, data_dir: Path):
        self.name, self.config, self.data_dir = config.dataset, config, data_dir
        self.count = None  # how many sessions an archive holds is seen when it is read
        self.parts = acquire.choose_parts(self.name, config.disc_numbers, data_dir)
        files = [
            f"{place.name}/{inside} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for part in self.parts
            if part.path and part.path.is_dir()
            for place in oasis.session_folders(part.path, part.collection)
            for path, inside in oasis.wanted_files(place, self._image(part))
        ]
        self.fingerprint = ["archives 2", *self.needed(), *files]

    def _image(self, part: Part) -> tuple[str, str]:
        """Returns the wanted image of a part's sessions, see `oasis.image_of`."""
        return oasis.image_of(part.collection, self.config.oasis1_image)

    def needed(self) -> list[str]:
        """Returns the names of the archives: each is a finding of its own once it is read."""
        return [part.name for part in self.parts]

    def records(self) -> dict[str, dict]:
        paths = {part.name: part.path for part in self.parts if part.path}
        return {n: acquire.archive_record(path) for n, path in paths.items() if path.is_file()}

    def sheets(self, fetch: bool) -> list[Path]:
        find = acquire.find_or_fetch_sheet if fetch else oasis.find_sheet
        paths = [find(self.data_dir, collection) for collection in oasis.COLLECTIONS[self.name]]
        return [path for path in paths if path]

    def scans(self, store: Any, shard: Shard = base.WHOLE) -> Iterator[Finding]:
        """Yields what a `Store` lacks of a shard's archives, downloading later ones meanwhile."""
        parts = shard.of(self.parts)
        acquire.announce([part for part in parts if part.name not in store], self.data_dir)
        parts = [part for part in parts if part.path or part.name not in store]
        for part, record in acquire.supplied(parts, self.data_dir):
            origin = (part.name, record.get("sha256"))
            store.forget_others(*origin)
            if part.name not in store:
                path = part.path or self.data_dir / part.name
                yield from self._scans_of(part, path, origin, store)
                yield FinishedPart(part.name, record, origin)

    def _scans_of(self, part: Part, path: Path, origin: tuple, store: Any) -> Iterator[Finding]:
        """Yields the scans of one archive that a `Store` lacks."""
        read = oasis.sessions_in_folder if path.is_dir() else oasis.sessions_in_archive
        sessions = read(path, part.collection, self._image(part), store)
        sessions = (session for session in sessions if session.name not in store)
        try:
            yield from base.in_parallel(functools.partial(self._scan, part, origin), sessions)
        except ArchiveError:  # what came before the damage may be damaged too
            store.forget_others(part.name, None)
            acquire.forget_record(path)
            raise

    def _scan(self, part: Part, origin: tuple, session: Session) -> Finding:
        """Returns a session's slices, or why there are none."""
        config, collection = self.config, part.collection
        try:
            volumes, names, notes = oasis.volumes_of(session, self._image(part))
            if collection is OASIS1 and config.oasis1_image != "raw" and len(volumes) > 1:
                raise VolumeError(
                    f"{session.name}: expected one {config.oasis1_image} image. Received: "
                    f"{', '.join(names)}. Take out those that do not belong there"
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
        """Returns the mean of a session's scans, and the names of those left out of it.

        A raw head of OASIS-2 becomes like the chosen image of OASIS-1: in the atlas or only turned
        like it, without the skull or whole.
        """
        # Not at the top: SimpleITK takes 90 MB, which images in the atlas do without.
        from oasisvq.data import registration

        kind = self.config.oasis1_image
        volume, left_out = registration.average_repeats(volumes, names)
        if collection is not OASIS1:
            volume = registration.to_atlas(volume, session, scaling=kind.startswith("t88"))
            if kind == "t88_masked_gfc":
                brain = volume.voxels * registration.brain_mask()
                volume = dataclasses.replace(volume, voxels=brain)
        return volume, left_out
