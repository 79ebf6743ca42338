"""Everything that asks which Keras backend runs.

| file | contents |
| --- | --- |
| `arrays/` | operations missing from `keras.ops`, implemented per backend |
| `assertions` | checks of values in a compiled step |
| `dry_run` | recognises Keras' trial run before training |
| `foreign` | recognises TensorFlow's tensors on other backends |
| `host_call` | calls Python from a compiled step |
| `random_state` | the random state that torch keeps outside of Keras |
| `replicas` | communication between replicas of `tf.distribute` |
| `trainer` | weights, data streams and XLA of Keras' trainers |
"""
