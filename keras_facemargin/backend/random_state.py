"""The random state of a backend outside of Keras' `SeedGenerator`s.

Only torch has one: its dropout without a seed uses torch's own generators.
"""

import keras


def random_state():
    """One uint8 array for each generator, the CPU's, then each GPU's; none except on torch."""
    if keras.backend.backend() != "torch":
        return []
    import torch

    return [state.numpy() for state in (torch.get_rng_state(), *torch.cuda.get_rng_state_all())]


def set_random_state(arrays):
    """Restores the state that `random_state` returned, for the devices that exist."""
    if keras.backend.backend() != "torch" or not arrays:
        return
    import torch

    states = [torch.from_numpy(array.copy()) for array in arrays]
    torch.set_rng_state(states[0])
    for device, state in zip(range(torch.cuda.device_count()), states[1:], strict=False):
        torch.cuda.set_rng_state(state, device)
