"""TensorFlow: a graph's loop runs one block after the other; its arrays are filled in place.

`InplaceUpdate` and `InplaceAdd` write into their operand. XLA has neither, and updates the arrays
of a loop in place.
"""

import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import dynamic_update_slice
from tensorflow.python.ops import control_flow_util


def with_gradient(function, *inputs):
    @tf.custom_gradient
    def run(*inputs):
        outputs, pullback = function(*inputs)
        return outputs, lambda *cotangents: pullback(cotangents)

    # The value of a variable: a custom gradient does not accept variables that it is not told of.
    return run(*map(tf.convert_to_tensor, inputs))


def vjp(function, *inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    return outputs, lambda cotangents: tape.gradient(outputs, inputs, cotangents)


def loop(count, body, carry):
    if count == 1:
        return body(0, *carry)
    return tf.while_loop(
        lambda i, *carry: i < count,
        lambda i, *carry: (i + 1, *body(i, *carry)),
        (0, *carry),
        parallel_iterations=2,  # while one waits for memory, the next multiplies
    )[1:]


def empty(shape, dtype):
    if _in_xla():
        return tf.zeros(shape, dtype)
    return tf.raw_ops.Empty(shape=shape, dtype=dtype, init=False)


def update_rows(array, rows, start):
    if _in_xla():
        return dynamic_update_slice(array, rows, [start, *[0] * (len(array.shape) - 1)])
    return tf.raw_ops.InplaceUpdate(x=array, i=tf.range(start, start + rows.shape[0]), v=rows)


def add_rows(array, rows, indices):
    if _in_xla():
        return tf.tensor_scatter_nd_add(array, indices[:, None], rows)
    return tf.raw_ops.InplaceAdd(x=array, i=indices, v=rows)


def fill_target(array, columns, value):
    count = array.shape[1]
    if _in_xla():
        places = tf.equal(columns[:, None], tf.range(count))
        return tf.where(places, tf.cast(value, array.dtype), array)
    # Comparing and selecting over the whole array costs as much as half a matrix product.
    there = tf.logical_and(columns >= 0, columns < count)
    rows = tf.range(tf.shape(columns)[0])
    places = tf.stack([rows, tf.clip_by_value(columns, 0, count - 1)], axis=1)
    values = tf.where(there, tf.cast(value, array.dtype), tf.gather_nd(array, places))
    return tf.tensor_scatter_nd_update(array, places, values)


def take_rows(variable, rows):
    # From the variable itself: reading all of it would copy it after rows have been stored.
    return tf.gather(variable.value, rows)


def store_rows(variable, rows, values):
    variable.value.scatter_update(tf.IndexedSlices(values, rows))


def _in_xla():
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
