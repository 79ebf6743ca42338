"""Instead of scikit-learn in the processes of the tests: Keras imports it at its start, 0.5 s."""

raise ImportError("not for the processes that tests start")
