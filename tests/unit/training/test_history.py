"""The history of a stage: a row an epoch, and curves that are drawn anew after a kill."""

import pandas
import tensorflow as tf

from oasisvq.training.history import History


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
