"""Fixtures of the tests of the miniature world."""

import pytest

from ima.miniature.corpus import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(seed=1, samples=400)
