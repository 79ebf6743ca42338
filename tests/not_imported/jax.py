"""Instead of jax in the processes of the tests on TensorFlow, which imports it, 0.5 s."""

raise ImportError("not for the processes that tests start on TensorFlow")
