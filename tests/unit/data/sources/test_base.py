"""Shares of a job, findings as facts, and scans at work on all cores."""

import itertools
import json
import os
import re
import threading

import numpy as np
import pytest

from oasisvq.core.errors import HyperparameterError
from oasisvq.data.sources.base import MOST_THREADS, WHOLE, BadScan, Scan, Shard, in_parallel
from support.processes import HANG


def test_shares_are_disjoint_and_all():
    for count in (1, 3, 16):
        shares = [Shard(n + 1, count).of(list(range(10))) for n in range(count)]
        assert sorted(itertools.chain(*shares)) == list(range(10))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "x", "1", "1/", "/4", "-1/4", "1/0", "1.0/2", ""])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(HyperparameterError, match=f"--shard.* {re.escape(text)}$"):
        Shard.parse(text)


def test_as_many_scans_are_at_work_as_there_are_cores_and_no_more():
    at_work, most, lock = 0, 0, threading.Lock()
    taken = []
    cores = min(os.cpu_count(), MOST_THREADS)
    all_at_work = threading.Barrier(cores, timeout=HANG)

    def work(item):
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        all_at_work.wait()
        with lock:
            at_work -= 1
        return item

    count = 15 * cores
    for result in in_parallel(work, (taken.append(n) or n for n in range(count))):
        assert len(taken) - result <= cores + 1  # nor is more of the archive in memory
    assert most == cores
    assert taken == list(range(count))


def test_items_in_memory_take_no_more_than_the_room_unless_one_alone_does():
    sizes = [3, 4, 3, 1, 20, 2, 9, 1, 1, 1]
    taken = []
    items = (taken.append(size) or size for size in sizes)
    for done, _ in enumerate(in_parallel(lambda size: size, items, lambda size: size, 10)):
        in_memory = taken[done:-1]  # the last one taken waits for room
        assert sum(in_memory) <= 10 or len(in_memory) == 1
    assert taken == sizes


def test_the_facts_of_a_scan_are_all_but_its_pictures_as_json_knows_them():
    pictures = [np.zeros((3, 4), np.float32), np.ones((5, 6), np.float32)]
    scan = Scan("key", "a", "MR1", "", "axial", pictures, [1, None], [2.5, None], notes=["a note"])
    facts = json.loads(json.dumps(scan.facts()))
    assert facts == {
        "kind": "scan",
        "key": "key",
        "subject": "a",
        "session": "MR1",
        "split": "",
        "plane": "axial",
        "indices": [1, None],
        "positions_mm": [2.5, None],
        "source": "",
        "notes": ["a note"],
        "origin": [],
        "repeat": "",
        "group": "",
        "sides": "",
        "sizes": [[3, 4], [5, 6]],
    }
    bad = BadScan("key", "torn", ("disc1", "sum")).facts()
    assert bad == {"kind": "bad", "key": "key", "problem": "torn", "origin": ("disc1", "sum")}


def test_a_share_is_read_as_it_is_written():
    assert (Shard.parse("3/16"), Shard.parse(None)) == (Shard(3, 16), WHOLE)
