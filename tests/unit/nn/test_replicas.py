"""What a layer sees of a batch that two devices share."""

import subprocess
import sys

import numpy as np
import tensorflow as tf

from oasisvq.nn.replicas import gather_batch

TWO_DEVICES = """
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from oasisvq.nn.metrics import CodebookUse, SliceMean
from oasisvq.nn.random import UniformDraws
from oasisvq.nn.replicas import gather_batch
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    mean, use, draws = SliceMean("loss"), CodebookUse(4), UniformDraws(5)

@tf.function
def step():
    def on_device():
        first = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = tf.range(2) + 2 * first
        mean.update_state(tf.cast(share, tf.float32))
        use.update_state(share[:, None, None])
        return gather_batch(share), draws(tf.constant([2, 3]))
    return strategy.run(on_device)

shares, uniforms = (strategy.experimental_local_results(x) for x in step())
for share in shares:
    np.testing.assert_array_equal(share, [0, 1, 2, 3])
np.testing.assert_array_equal(np.concatenate(uniforms), tf.random.stateless_uniform([4, 3], [5, 0]))
assert float(mean.result()) == 1.5
np.testing.assert_array_equal(use.counts.numpy(), [1, 1, 1, 1])
print("equal")
"""


def test_one_device_sees_its_batch_as_it_is():
    np.testing.assert_array_equal(gather_batch(tf.range(3)), [0, 1, 2])


def test_two_devices_see_the_whole_batch_and_draw_as_one():
    command = [sys.executable, "-c", TWO_DEVICES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("equal")
