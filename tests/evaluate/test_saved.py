"""Saved embeddings: what the file holds, and the refusal to compare two embedders."""

import numpy as np
import pytest

from keras_facemargin.evaluate.saved import (
    read_embeddings,
    require_one_embedder,
    save_embeddings,
)

pytestmark = pytest.mark.any_backend


@pytest.fixture
def save(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, id):
        save_embeddings(name, np.eye(2), ["a/1.jpg", "b/1.jpg"], embedding_id=id, model=name[0])
        return read_embeddings(name)

    return write


def test_a_file_names_its_embedder(save):
    saved = save("a.npz", "1" * 64)
    assert (saved.embedding_id, saved.model, saved.labels) == ("1" * 64, "a", ["a", "b"])
    np.testing.assert_array_equal(saved.embeddings, np.eye(2))
    require_one_embedder(saved, save("b.npz", "1" * 64))


def test_two_embedders_are_refused_by_their_names(save):
    with pytest.raises(ValueError, match=r"a\.npz of a, id 1{64}, and b\.npz of b, id 2{64}\."):
        require_one_embedder(save("a.npz", "1" * 64), save("b.npz", "2" * 64))


def test_a_file_without_an_id_is_refused(save):
    with pytest.raises(ValueError, match=r"b\.npz without an `embedding_id`\. `facemargin embed`"):
        require_one_embedder(save("a.npz", "1" * 64), save("b.npz", None))
