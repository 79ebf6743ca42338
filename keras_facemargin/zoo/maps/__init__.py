"""Maps: from a published state, tensors by name, to the layers of a network of this package."""
