"""torch: loops are Python's, arrays are written to directly."""

import torch


class _WithPullback(torch.autograd.Function):
    @staticmethod
    def forward(context, function, *inputs):
        outputs, context.pullback = function(*inputs)
        return outputs

    @staticmethod
    def backward(context, *cotangents):
        return (None, *context.pullback(cotangents))


def with_gradient(function, *inputs):
    return _WithPullback.apply(function, *inputs)


def vjp(function, *inputs):
    inputs = tuple(each.detach().requires_grad_() for each in inputs)
    with torch.enable_grad():
        outputs = function(*inputs)

    def pullback(cotangents):
        return torch.autograd.grad(outputs, inputs, cotangents, allow_unused=True)

    return tuple(each.detach() for each in outputs), pullback


def loop(count, body, carry):
    for i in range(count):
        carry = body(i, *carry)
    return carry


def empty(shape, dtype):
    return torch.empty(shape, dtype=getattr(torch, dtype))


def update_rows(array, rows, start):
    array[start : start + len(rows)] = rows
    return array


def add_rows(array, rows, indices):
    return array.index_add_(0, indices, rows)


def fill_target(array, columns, value):
    rows = torch.nonzero((columns >= 0) & (columns < array.shape[1])).squeeze(-1)
    return array.index_put((rows, columns[rows]), torch.tensor(value, dtype=array.dtype))


def take_rows(variable, rows):
    return variable.value.detach()[rows]


def store_rows(variable, rows, values):
    variable.value.data[rows] = values.detach()
