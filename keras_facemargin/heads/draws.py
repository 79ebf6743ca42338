"""Random numbers that continue after a resumed run, the same on every replica."""

from keras import ops


def restart(generator, seed, step):
    """Sets the generator so that its next draw depends only on the step, which a head saves.

    Keras does not save the state of a `SeedGenerator`, and each replica has its own.
    """
    state = ops.stack([ops.full_like(step, seed), step])
    generator.state.assign(ops.cast(state, generator.state.dtype))
