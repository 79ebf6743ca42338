import logging
import os

import pytest

from keras_facemargin.export.console import quiet


def _chatter():
    os.write(2, b"from C++\n")
    logging.getLogger("tensorflow").warning("from Python")


def test_chatter_is_held_back(capfd):
    before = logging.getLogger("tensorflow").level
    with quiet():
        _chatter()
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"
    assert logging.getLogger("tensorflow").level == before


def test_chatter_is_printed_if_the_conversion_fails(capfd):
    with pytest.raises(KeyError), quiet():
        _chatter()
        raise KeyError
    assert "from C++\n" in capfd.readouterr().err
