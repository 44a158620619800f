"""Splits subjects into training, validation and test by a hash of their names."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oasisvq.core.errors import DatasetError, WriteError
from oasisvq.core.files import one_at_a_time, read_json, write_text
from oasisvq.core.words import counted

if TYPE_CHECKING:  # `dataset.py --help` need not wait for pandas
    import pandas

SPLITS = ("train", "validation", "test")
TEST_SLICES = "test_slices"  # the folder of the test subjects' slices in a run folder
RECORD = "splits.json"  # in the data folder: who was moved because a split was empty
# Near-duplicates under two names, which are in one split even if only one of them is there.
SAME_PERSON = {"OAS1_0193": "OAS1_0079"}
MOST_HASHES = 200_000  # in the search for a seed: a third of a second


class Split:
    """The split of a source's slices by person, from the source's folders or a hash of the names.

    Subjects who are one person get one split. If the source's folders have them in several, it is
    the first of training, validation and test, so that no person is scored who was trained on. If
    only a folder for validation or for test is missing, its persons are taken from those of the
    train folder. Folders for one split alone decide nothing.

    Args:
        table: One row per slice, with its `subject`, and the `split` of the source or `""`.
        config: `DataConfig`, for the fractions and the seed of the split.
        people: From `join_people`.
        whole: Whether the table is that of a whole source. The slices of one split that were saved
            by themselves keep that split.

    Attributes:
        splits: Dictionary from each person to their split.
        notes: Sentences about what the fractions and the folders do not tell.

    Raises:
        DatasetError: If the source has a subject in two splits, or some slices in no split.
    """

    def __init__(
        self, table: "pandas.DataFrame", config: Any, people: dict[str, str], whole: bool = True
    ):
        _check_folders(table)
        self.config, self.whole = config, whole
        self.notes: list[str] = []
        self.subjects: list[str] = list(table["subject"])
        self.people = {name: people.get(name, name) for name in dict.fromkeys(self.subjects)}
        self.folders = set(table["split"]) - {""}
        if len(self.folders) == 1 and whole:
            self.notes.append(
                f"All slices lie in folders for {self.folders.pop()}, so the split comes from the "
                "subjects' names, as without such folders"
            )
        placed: dict[str, str] = {}  # the split of each person in the source's folders
        for split in (split for split in SPLITS[::-1] if split in self.folders):
            names = table.loc[table["split"] == split, "subject"].unique()
            placed |= {self.people[name]: split for name in names}
        ready_made = table.loc[table["split"].isin(list(self.folders)), ["subject", "split"]]
        ready_made = ready_made.drop_duplicates()
        overruled = [n for n, split in ready_made.to_numpy() if placed[self.people[n]] != split]
        if overruled:
            self.notes.append(
                f"In one split's folder, with near-duplicates in another's: "
                f"{counted(len(overruled), 'subject')}, as {overruled[0]}. The first of train, "
                "validation and test is theirs"
            )
        wanted = [split for split in SPLITS if split == "train" or self._fraction(split) > 0]
        missing = [split for split in wanted[1:] if split not in self.folders]
        if not self.folders:
            self.open = wanted
        elif whole and "train" in self.folders:
            self.open = ["train", *missing]
        else:
            self.open = []
        if self.folders and len(self.open) > 1:
            self.notes.append(
                f"There is no folder for {missing[0]}: its subjects are taken from those for train"
            )
        self.free: list[str] = []  # persons whose split the hash decides
        self.splits: dict[str, str] = {}
        for person in sorted(set(self.people.values())):
            self.splits[person] = placed.get(person, "train")
            if self.open and self.splits[person] == "train":
                self.free.append(person)
                split = subject_split(person, config)
                self.splits[person] = split if split in self.open else "train"
        self.by_rule = dict(self.splits)

    def _fraction(self, split: str) -> float:
        """Returns the share of the subjects that validation or test are to have."""
        return getattr(self.config, f"{split}_fraction")

    def of_slices(self) -> list[str]:
        """Returns the split of each row of the table."""
        return [self.splits[self.people[subject]] for subject in self.subjects]

    def fill(self, source: str, data_dir: Path, write: bool = True) -> None:
        """Moves persons if a split is empty, and records them in `data_dir`.

        As few as possible are moved: an empty split gets the person whose hash lies nearest to it,
        from a split that keeps another person. Persons who were moved before, as `data_dir/RECORD`
        says, keep their split.

        Args:
            source: The name of the source.
            data_dir: Path of the folder for prepared slices.
            write: Whether to record them. What is moved is the same without.

        Raises:
            DatasetError: If the record is damaged.
        """
        if not self.free:
            return
        path, config = data_dir / RECORD, self.config
        key = (
            f"{source} --split-seed {config.split_seed} --validation-fraction "
            f"{config.validation_fraction:g} --test-fraction {config.test_fraction:g}"
        )
        known = read_record(path).get(key, {})
        self._honour(known)
        kept = "keeps it"
        if not write:
            kept = "will keep it" if self._move(known) else kept
        elif self._empty():
            try:
                data_dir.mkdir(parents=True, exist_ok=True)
                with one_at_a_time(data_dir / f".{RECORD}.mutex", f"writes {path}"):
                    record = read_record(path)
                    known = record.get(key, {})
                    self._honour(known)
                    moved = self._move(known)
                    if moved:
                        write_text(path, {**record, key: {**known, **moved}})
            except (OSError, WriteError):
                self._move({})
                kept = ""
        self._note_moves(path, kept)

    def _empty(self) -> list[str]:
        """Returns the empty splits that free persons can fill; none if there are too few."""
        if len(self.free) < len(self.open):
            return []
        # The outer intervals of the hash come first: the middle one takes from either side.
        order = ("test", "train", "validation")
        return [s for s in order if s in self.open and s not in self.splits.values()]

    def _honour(self, known: dict[str, str]) -> None:
        """Gives free persons the split that is recorded for one of their names.

        Of several splits it is the first of training, validation and test.
        """
        for split in (split for split in SPLITS[::-1] if split in self.open):
            names = [name for name in self.people if known.get(name) == split]
            persons = {self.people[name] for name in names}.intersection(self.free)
            self.splits |= dict.fromkeys(persons, split)

    def _move(self, known: dict[str, str]) -> dict[str, str]:
        """Moves persons to the empty splits, and returns the new split of each of their names."""
        moved = {}
        recorded = {person for name, person in self.people.items() if name in known}
        for split in self._empty():
            sizes = Counter(self.splits.values())
            givers = [person for person in self.free if sizes[self.splits[person]] > 1]
            givers = [person for person in givers if person not in recorded] or givers
            nearest = min((_distance(person, split, self.config), person) for person in givers)[1]
            self.splits[nearest] = split
            moved |= dict.fromkeys(self._names(nearest), split)
        return moved

    def _note_moves(self, path: Path, kept: str) -> None:
        """Notes who is in another split than by the rule, and whether that will stay so."""
        moves = [(p, split) for p, split in self.splits.items() if split != self.by_rule[p]]
        if not moves:
            return
        verbs = [" was moved", *[""] * (len(moves) - 1)]
        texts = [
            f"{self._names(person)[0]}{verb} to {split}"
            for verb, (person, split) in zip(verbs, moves, strict=True)
        ]
        note = f"{_enumerate(texts)}, so that no split is empty; {path} "
        if kept:
            note += kept
        else:
            note += "cannot be written, so others may be moved once subjects are added"
            seed = find_seed(self.free, self.config, self.open)
            note += "" if seed is None else f". --split-seed {seed} moves nobody"
        self.notes.append(note)

    def _names(self, person: str) -> list[str]:
        return [name for name, who in self.people.items() if who == person]

    def remedy(self, empty: str, wanted: Iterable[str]) -> str:
        """Returns what to do about an empty split, as one sentence.

        Args:
            empty: The empty split.
            wanted: All splits that must not be empty.
        """
        if not self.whole:
            return "These are the slices of one split: give the whole dataset as --dataset"
        if self.open and empty not in {"train", *self.folders} and not self._fraction(empty):
            return f"Raise --{empty}-fraction"
        if empty not in self.open:
            return (
                f"The source has train, validate and test folders: put other subjects into one for "
                f"{empty}. Near-duplicates count for the first of the three"
            )
        seed = find_seed(self.free, self.config, set(wanted) & set(self.open))
        if seed is not None:
            return f"--split-seed {seed} gives each of these splits a subject"
        names = [self._names(person)[0] for person in self.free]
        where = " in the train folders" if self.folders else ""
        together = " (near-duplicates count as one)" if len(self.people) > len(self.splits) else ""
        return (
            f"At least {len(self.open)} persons are needed{where}, for {_enumerate(self.open)}, "
            f"and {len(names)} found: {', '.join(names) or 'nobody'}{together}. Add subjects, or, "
            "if names were misread, say with --subject-pattern which part of a name is the person"
        )


def assign_splits(table: "pandas.DataFrame", config: Any, people: dict[str, str]) -> list[str]:
    """Returns the split of each slice by the rule of `Split` alone, with nobody moved."""
    return Split(table, config, people).of_slices()


def split_heads(table: Any) -> tuple[list[str], list[str]]:
    """Returns the split of each row of heads that were found by likeness, and lines on it.

    A head whose pictures lie in folders for one split keeps it. One of several is trained on.
    """
    several = table.groupby("subject")["split"].transform("nunique") > 1
    splits = table["split"].mask(several, "train")
    moved = several & (table["split"] != "train")
    if not moved.any():
        return list(splits), []
    heads = table.loc[several, "subject"].nunique()
    return list(splits), [
        f"Moved to train: {counted(moved.sum(), 'picture')} of {counted(heads, 'head')} in "
        "folders for several splits"
    ]


def _check_folders(table: "pandas.DataFrame") -> None:
    """Refuses subjects in two of the source's splits, and in none if others are in one."""
    ready_made = table.loc[table["split"] != "", ["subject", "split"]].drop_duplicates()
    twice = ready_made["subject"][ready_made["subject"].duplicated()]
    if len(twice):
        raise DatasetError(
            f"subject {twice.iloc[0]} is in more than one of the source's train, validate and test "
            "folders, and so would be trained on and scored. Move its slices into one of them"
        )
    unknown = table.loc[table["split"] == "", "subject"]
    if len(unknown) and len(ready_made):
        raise DatasetError(
            f"slices of subject {unknown.min()} are in none of the source's train, validate and "
            "test folders, but others are. Move them into one of them"
        )


def read_record(path: Path) -> dict[str, dict[str, str]]:
    """Returns who was moved to which split, by source, seed and fractions; `{}` without a file.

    Raises:
        DatasetError: If the file is damaged.
    """
    try:
        record = read_json(path)
        if not all(split in SPLITS for moved in record.values() for split in moved.values()):
            raise ValueError(f"expected the splits {_enumerate(SPLITS)}")
        return record
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(
            f"{path}: not the record of the subjects who were moved to another split ({error}). "
            "Restore it, or delete it, and such subjects are chosen anew"
        ) from error


def find_seed(persons: list[str], config: Any, splits: Iterable[str]) -> int | None:
    """Returns the first `--split-seed` whose hash puts somebody into each split, or `None`.

    Only so many seeds are tried that it takes less than a second.
    """
    for seed in range(min(10_000, MOST_HASHES // max(len(persons), 1))):
        found = {split_at(_place(person, config, seed), config) for person in persons}
        if found >= set(splits):
            return seed
    return None


def join_people(pairs: Iterable[Iterable[str]]) -> dict[str, str]:
    """Returns the common name of each subject in these pairs and in `SAME_PERSON`.

    It is the first, in alphabetical order, of all names with which the subject is paired, directly
    or through others.
    """
    people: dict[str, str] = {}
    everyone: list[Iterable[str]] = [*pairs, *SAME_PERSON.items()]
    for pair in everyone:
        one, other = sorted(people.get(name, name) for name in pair)
        joined = {*pair, other, *(name for name, first in people.items() if first == other)}
        people |= dict.fromkeys(joined, one)
    return people


def subject_split(subject: str, config: Any) -> str:
    """Returns the split of a subject, from a hash of its name.

    New subjects do not change the split of others, except of their near-duplicates.
    """
    return split_at(_place(subject, config), config)


def split_at(place: float, config: Any) -> str:
    """Returns the split of persons whose hash is at a place in [0, 1)."""
    if place < config.test_fraction:
        return "test"
    return "validation" if place < config.test_fraction + config.validation_fraction else "train"


def _place(person: str, config: Any, seed: int | None = None) -> float:
    """Returns a person's place in [0, 1), from a hash of the name and the seed of the split."""
    seed = config.split_seed if seed is None else seed
    name = f"{seed}:{SAME_PERSON.get(person, person)}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _interval(split: str, config: Any) -> tuple[float, float]:
    """Returns the places of a split: test lies below validation, training above both."""
    test, both = config.test_fraction, config.test_fraction + config.validation_fraction
    return {"test": (0.0, test), "validation": (test, both), "train": (both, 1.0)}[split]


def _distance(person: str, split: str, config: Any) -> float:
    """Returns how far a person's place is from the interval of a split."""
    place, (low, high) = _place(person, config), _interval(split, config)
    return max(low - place, place - high, 0.0)


def _enumerate(words: Iterable[str]) -> str:
    """Returns words as `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
