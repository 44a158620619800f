"""Splits subjects into training, validation and test by a hash of their names."""

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from oasisvq.core.errors import DatasetError

if TYPE_CHECKING:  # `dataset.py --help` need not wait for pandas
    import pandas

SPLITS = ("train", "validation", "test")
TEST_SLICES = "test_slices"  # the folder of the test subjects' slices in a run folder
# Near-duplicates under two names, which are in one split even if only one of them is there.
SAME_PERSON = {"OAS1_0193": "OAS1_0079"}


def assign_splits(table: "pandas.DataFrame", config: Any, people: dict[str, str]) -> list[str]:
    """Returns the split of each slice: that of the source, or one from the subject's name.

    Subjects who are one person get one split. If the source has them in several splits, it is the
    first of training, validation and test, so that no person is scored who was trained on.

    Args:
        table: One row per slice, with its `subject`, and the `split` of the source or `""`.
        config: `DataConfig`, for the fractions and the seed of the split.
        people: From `join_people`.

    Raises:
        DatasetError: If the source has a subject in two splits, or some slices in no split.
    """
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
    names = table["subject"].map(lambda subject: people.get(subject, subject))
    if not len(ready_made):
        return [subject_split(name, config) for name in names]
    return [SPLITS[n] for n in table["split"].map(SPLITS.index).groupby(names).transform("min")]


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
    name = f"{config.split_seed}:{SAME_PERSON.get(subject, subject)}"
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48  # [0, 1)
    if place < config.test_fraction:
        return "test"
    return "validation" if place < config.test_fraction + config.validation_fraction else "train"
