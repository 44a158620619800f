"""Float32 products as a tensor core takes them: the inputs rounded to ten bits of mantissa."""

import contextlib
from unittest import mock

import tensorflow as tf

PRODUCTS = {
    tf: ("matmul", "einsum"),
    tf.linalg: ("matmul",),
    tf.nn: ("convolution", "conv2d", "conv2d_transpose", "conv_transpose"),
}


def rounded(values):
    """Returns float32 values rounded to the nearest of ten bits, with the gradient of the whole."""
    bits = tf.bitcast(values, tf.uint32)
    even = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 13), 1)
    bits = tf.bitwise.bitwise_and(bits + 0x0FFF + even, 0xFFFFE000)
    return values + tf.stop_gradient(tf.bitcast(bits, tf.float32) - values)


@contextlib.contextmanager
def tensor_cores():
    """Rounds the inputs of every float32 product that is taken inside, eagerly or in a trace."""

    def taken(product):
        def wrapped(*arguments, **options):
            tensors = [_rounded_if_float32(argument) for argument in arguments]
            return product(*tensors, **{k: _rounded_if_float32(v) for k, v in options.items()})

        return wrapped

    with contextlib.ExitStack() as patches:
        for module, names in PRODUCTS.items():
            for name in names:
                patch = mock.patch.object(module, name, taken(getattr(module, name)))
                patches.enter_context(patch)
        yield


def _rounded_if_float32(argument):
    """Returns a float32 tensor or array rounded, and anything else as it is."""
    known = getattr(argument, "dtype", None)
    if known is None or "float32" not in str(known) or not hasattr(argument, "shape"):
        return argument
    return rounded(tf.convert_to_tensor(argument))
