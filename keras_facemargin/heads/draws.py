"""Random numbers that go on as if training had never stopped, the same on every replica."""

from keras import ops


def restart(generator, seed, step):
    """Makes the generator's next draw follow from a step alone, which a head saves.

    Keras does not save the state of a `SeedGenerator`, and each replica moves its own.
    """
    state = ops.stack([ops.full_like(step, seed), step])
    generator.state.assign(ops.cast(state, generator.state.dtype))
