"""Heads and pairwise losses by name, as `keras.losses.get` finds Keras' losses."""

import difflib
import re

import keras

from keras_facemargin.heads.margin_head.arguments import shown


def find_class(kind, name, classes):
    """The class of a name in any common spelling: "CosFace", "cosface", "cos_face", "cos-face".

    Args:
        kind: "head" or "loss", for the error.
        name: str.
        classes: dict of name -> class.

    Raises:
        ValueError: the name is unknown; the error lists the nearest ones.

    Example:

    >>> find_class("head", "my_head", {"MyHead": dict})
    <class 'dict'>
    """
    spellings = {_plain(each): each for each in classes}
    if isinstance(name, str) and _plain(name) in spellings:
        return classes[spellings[_plain(name)]]
    nearest = difflib.get_close_matches(_plain(str(name)), spellings, n=3, cutoff=0.5)
    hint = " or ".join(spellings[each] for each in nearest)
    raise ValueError(
        f"No {kind} has that name. Received: {shown(name)}. "
        + (f"Did you mean {hint}?" if hint else f"The names are {', '.join(sorted(classes))}.")
    )


def get_object(kind, identifier, base, classes, arguments):
    """`heads.get` and `losses.get`: an object of a class from its name, its config or itself.

    Args:
        kind: "head" or "loss", for the errors.
        identifier: name, dict with "class_name" and "config", class, or object.
        base: class or classes that the object must be of.
        classes: dict of name -> class.
        arguments: dict for the constructor; they override those of a config.

    Raises:
        ValueError: no class has that name; the identifier is not one of these; an object was given
            together with arguments.
    """
    if isinstance(identifier, str):
        return find_class(kind, identifier, classes)(**arguments)
    if isinstance(identifier, dict) and {"class_name", "config"} <= set(identifier):
        config = {**identifier["config"], **arguments}
        if identifier.get("registered_name"):
            return keras.saving.deserialize_keras_object({**identifier, "config": config})
        return find_class(kind, identifier["class_name"], classes).from_config(config)
    if isinstance(identifier, type) and issubclass(identifier, base):
        return identifier(**arguments)
    if isinstance(identifier, base) and not arguments:
        return identifier
    raise ValueError(
        f"A {kind} is given by its name, by a dict with class_name and config, as a class, or as "
        f"an object without further arguments. Received: {shown(identifier)}."
    )


def _plain(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())
