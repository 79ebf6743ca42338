"""Operations missing from `keras.ops`, implemented per backend behind nine functions.

A loss over blocks of classes fills one large array row by row. In a TensorFlow graph,
`ops.slice_update` copies the whole array each time and `ops.fori_loop` keeps several blocks in
memory at once; a custom gradient of Keras has one output. Each backend therefore implements:

| function | result |
| --- | --- |
| `with_gradient(function, *inputs)` | outputs of a function that returns outputs and pullback |
| `vjp(function, *inputs)` | outputs and pullback of a function, by automatic differentiation |
| `loop(count, body, carry)` | `carry = body(i, *carry)`, one i after the other |
| `empty(shape, dtype)` | an array to fill by rows |
| `update_rows(array, rows, start)` | the array with its rows from `start` on replaced (1) |
| `add_rows(array, rows, indices)` | the array with rows added at indices, which may repeat (1) |
| `fill_target(array, columns, value)` | the array with a column of each row replaced, if in range |
| `take_rows(variable, rows)` | rows of a Keras variable |
| `store_rows(variable, rows, values)` | nothing; assigns rows of a Keras variable |

(1) The input array must not be used again.

A pullback takes a tuple of one cotangent per output and returns one gradient per input, None for an
input without a gradient.
"""

import importlib

import keras

_backend = importlib.import_module(f"{__name__}.{keras.backend.backend()}")

with_gradient = _backend.with_gradient
vjp = _backend.vjp
loop = _backend.loop
empty = _backend.empty
update_rows = _backend.update_rows
add_rows = _backend.add_rows
fill_target = _backend.fill_target
take_rows = _backend.take_rows
store_rows = _backend.store_rows
