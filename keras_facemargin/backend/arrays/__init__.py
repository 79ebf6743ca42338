"""Operations missing from `keras.ops`, implemented per backend behind nine functions.

A loss over blocks of classes fills one large array row by row. `ops.slice_update` copies all of
that array each time where TensorFlow runs a graph, `ops.fori_loop` lets several blocks be alive at
once there, and a custom gradient of Keras has one output. So each backend says itself:

| function | what it does |
| --- | --- |
| `with_gradient(function, *inputs)` | outputs of a function that returns them and its pullback |
| `vjp(function, *inputs)` | the pullback of a function, by the backend's own differentiation |
| `loop(count, body, carry)` | `carry = body(i, *carry)`, one i after the other |
| `empty(shape, dtype)` | an array to be filled, rows first |
| `put(array, rows, start)` | the array with the rows from `start` on replaced; it is used up |
| `add(array, rows, indices)` | the array with rows added at indices, repeated ones too; used up |
| `fill(array, columns, value)` | the array with one column of each row replaced, if it has that |
| `take(variable, rows)` | rows of a Keras variable |
| `store(variable, rows, values)` | assigns rows of a Keras variable |

A pullback takes a tuple of cotangents, one an output, and returns one gradient an input, None where
nothing flows.
"""

import importlib

import keras

_backend = importlib.import_module(f"{__name__}.{keras.backend.backend()}")

with_gradient = _backend.with_gradient
vjp = _backend.vjp
loop = _backend.loop
empty = _backend.empty
put = _backend.put
add = _backend.add
fill = _backend.fill
take = _backend.take
store = _backend.store
