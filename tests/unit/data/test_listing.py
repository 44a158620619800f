"""What `--list` says of a folder, from names and headers alone."""

import csv
import dataclasses

import numpy as np

from dataset import OASIS, SPLITS, describe
from hyperparameters import DataConfig
from oasisvq.data.listing import describe_source, write_listing
from oasisvq.data.prepare import open_source
from support.sources import choose_discs, write_png, write_volume


def source_of(folder, **options):
    config = dataclasses.replace(DataConfig(), dataset=str(folder), **options)
    return open_source(config, folder / "data"), config


def test_a_folder_is_listed_without_reading_a_voxel(tmp_path):
    for number in range(1, 5):
        for visit in (1, 2):
            name = f"sub-{number}/ses-{visit}/sub-{number}_ses-{visit}"
            (tmp_path / name).parent.mkdir(parents=True)
            write_volume(tmp_path / f"{name}_T1w.nii", np.ones((20, 24, 30)))
            (tmp_path / f"{name}_dseg.nii.gz").write_bytes(b"no volume")
    sheet = "participant_id,session_id,age\n" + "".join(f"sub-{n},ses-1,7{n}\n" for n in (1, 2, 3))
    (tmp_path / "participants.csv").write_text(sheet)
    source, config = source_of(tmp_path, slices_per_volume=4)
    lines = "\n".join(describe_source(source, config, tmp_path / "data"))
    assert "8 images taken, 8 left out" in lines
    assert "8 a label map or mask, as sub-1/ses-1/sub-1_ses-1_dseg.nii.gz" in lines
    assert "4 persons, 8 sessions, 8 scans, 32 slices" in lines
    assert "participants.csv: joined to 3 of 8 sessions" in lines
    assert "Pixels of 1 mm" in lines
    assert not (tmp_path / "data").exists()

    write_listing(source.inventory(), tmp_path / "images.csv")
    rows = list(csv.DictReader((tmp_path / "images.csv").open()))
    assert len(rows) == 16
    assert [row["path"] for row in rows if row["taken"] == "True"] == [
        f"sub-{n}/ses-{v}/sub-{n}_ses-{v}_T1w.nii" for n in range(1, 5) for v in (1, 2)
    ]
    assert {row["reason"] for row in rows} == {"", "a label map or mask"}


def test_a_flat_folder_of_numbered_slices_is_one_person_and_says_so(tmp_path):
    (tmp_path / "head").mkdir()
    for number in range(1, 4):
        write_png(tmp_path / "head" / f"{number}.png", np.eye(20) * 200)
    lines = describe_source(*source_of(tmp_path / "head"), tmp_path / "data")
    assert any("one person, head" in line and "--subject-pattern" in line for line in lines)


def test_classes_are_listed_and_persons_in_several_are_named(tmp_path):
    for group in ("CN", "AD"):
        (tmp_path / group).mkdir()
        for number in range(3):
            write_png(tmp_path / group / f"patient{number}_7.png", np.eye(20) * 200)
    source, config = source_of(tmp_path)
    lines = "\n".join(describe_source(source, config, tmp_path / "data"))
    assert "3 persons" in lines
    assert "In several classes: 3 persons, as patient0" in lines


def test_the_listing_tells_the_split_that_preparing_makes(tmp_path):
    for number in range(20):
        pixels = np.random.default_rng(number).integers(1, 255, (20, 20))
        write_png(tmp_path / f"in/person{number}_7.png", pixels)
    source, config = source_of(tmp_path / "in", split_seed=6)
    *_, counts, moves = describe_source(source, config, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    dataset = OASIS(config, tmp_path / "data")
    expected = ", ".join(f"{split} {len(dataset.subjects(split))}" for split in SPLITS)
    assert counts == f"Persons, before near-duplicates are looked for: {expected}"
    assert moves.replace("will keep it", "keeps it") in describe(dataset)


def test_persons_by_likeness_are_not_counted_by_names(tmp_path):
    for number in range(4):
        write_png(tmp_path / f"CN/26 ({number}).png", np.eye(20) * 200)
    source, config = source_of(tmp_path, persons="by-likeness")
    assert "not known before" in describe_source(source, config, tmp_path / "data")[-1]


def test_other_sources_say_what_they_are(tmp_path):
    config = DataConfig(dataset="demo", demo_subjects=5)
    source, config = open_source(config, None), config
    assert describe_source(source, config, tmp_path / "data") == ["demo: 5 scans"]


def test_archives_are_listed_with_their_places(data_dir):
    config = choose_discs(discs="1-3")
    lines = describe_source(open_source(config, data_dir), config, data_dir)
    first, _, third = (f"oasis_cross-sectional_disc{number}.tar.gz" for number in (1, 2, 3))
    assert lines[0] == f"{first}: {data_dir / first}"
    assert lines[2] == f"{third}: to be downloaded"
