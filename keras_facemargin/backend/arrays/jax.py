"""jax: XLA fills in place what a loop carries."""

import jax
from jax import lax
from jax import numpy as jnp


def with_gradient(function, *inputs):
    return jax.custom_gradient(function)(*inputs)


def vjp(function, *inputs):
    outputs, pullback = jax.vjp(function, *inputs)
    return outputs, lambda cotangents: pullback(cotangents)


def loop(count, body, carry):
    if count <= 2:  # not worth compiling a loop for
        for i in range(count):
            carry = body(i, *carry)
        return carry
    return lax.fori_loop(0, count, lambda i, carry: body(i, *carry), carry)


def empty(shape, dtype):
    return jnp.zeros(shape, dtype)


def update_rows(array, rows, start):
    return lax.dynamic_update_slice_in_dim(array, rows, start, axis=0)


def add_rows(array, rows, indices):
    return array.at[indices].add(rows)


def fill_target(array, columns, value):
    return jnp.where(columns[:, None] == jnp.arange(array.shape[1]), value, array)


def take_rows(variable, rows):
    return jnp.take(variable.value, rows, axis=0)


def store_rows(variable, rows, values):
    variable.assign(variable.value.at[rows].set(values))
