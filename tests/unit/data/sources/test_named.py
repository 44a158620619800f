"""What `--dataset` may be."""

import pytest

from oasisvq.core.errors import DatasetError
from oasisvq.data.oasis import COLLECTIONS
from oasisvq.data.sources.named import NAMES, check_dataset


def test_the_names_are_those_of_all_sources():
    assert {*NAMES} == {*COLLECTIONS, "demo"}


def test_names_and_folders_are_sources(tmp_path):
    for name in (*NAMES, str(tmp_path)):
        check_dataset(name)


@pytest.mark.parametrize("name", ["", "nowhere", "oasis3", __file__])
def test_all_else_is_refused(name):
    with pytest.raises(DatasetError, match="no such folder. Expected oasis, oasis1, oasis2, demo"):
        check_dataset(name)
