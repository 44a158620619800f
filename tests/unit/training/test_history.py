"""The history of a stage: a row an epoch, and curves that are drawn anew after a kill."""

import pandas
import pytest
import tensorflow as tf

from oasisvq.core.errors import WriteError
from oasisvq.training.history import History
from support.disks import read_only, small_disk


def scalars(folder):
    """Reads the names and steps of all scalars in a folder's event files."""
    return sorted(
        (value.tag, event.step)
        for file in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    )


def test_each_epoch_is_a_row_and_a_point_of_each_curve(tmp_path):
    with History(tmp_path, "stage") as history:
        history.write({"loss": 0.5, "val_loss": 0.75})
        history.write({"loss": 0.25, "val_loss": 0.5})
    table = pandas.read_csv(tmp_path / "stage_history.csv")
    assert table.to_dict("list") == {
        "epoch": [0, 1],
        "loss": [0.5, 0.25],
        "val_loss": [0.75, 0.5],
    }
    for split in ("train", "validation"):
        found = scalars(tmp_path / "tensorboard/stage" / split)
        assert found == [("epoch_loss", 0), ("epoch_loss", 1)]


def test_curves_of_epochs_that_a_killed_process_had_drawn_are_drawn_anew(tmp_path):
    with History(tmp_path, "stage") as history:
        history.write({"loss": 0.5})
        history.write({"loss": 0.25})
    with History(tmp_path, "stage", history.rows[:1]) as again:
        again.write({"loss": 0.125})
    assert pandas.read_csv(tmp_path / "stage_history.csv")["loss"].tolist() == [0.5, 0.125]
    found = scalars(tmp_path / "tensorboard/stage/train")
    assert found == [("epoch_loss", 0), ("epoch_loss", 1)]


UNWRITTEN = "stage: the curves for TensorBoard cannot be written .{}.. Make room"


def test_a_disk_that_fills_up_with_curves_is_one_line(full_disk):
    row = {name * 1000: 0.5 for name in "abcdefgh"}
    reason = UNWRITTEN.format("No space left on device")
    with pytest.raises(WriteError, match=reason) as refused, History(full_disk, "stage") as history:
        for epoch in range(20):
            history._draw({"epoch": epoch, **row})
    assert "\n" not in str(refused.value)


def test_a_disk_without_a_place_for_another_file_is_one_line(tmp_path):
    with (
        small_disk(tmp_path / "disk", "nr_inodes=5") as disk,
        pytest.raises(WriteError, match=UNWRITTEN.format("No space left on device")),
    ):
        History(disk, "stage")


def test_curves_in_a_read_only_folder_are_one_line(tmp_path):
    with (
        read_only(tmp_path),
        pytest.raises(WriteError, match=UNWRITTEN.format("Read-only file system")),
    ):
        History(tmp_path, "stage")
