"""The core that all margin softmaxes share: similarities, margins, labels and the softmax.

`head` is the layer, `prototypes` its weights, `blocks` and `reductions` the loss over blocks of
classes, `sampling` Partial FC, `shards` prototypes split over devices, `labels` and `arguments`
the checks.
"""
