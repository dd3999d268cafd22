"""States of two data sets, whose kinds and modalities are clear clusters."""

from __future__ import annotations

import pytest
from madestates import MODALITIES, make_clusters

from ima.measures import labelled_states


@pytest.fixture(scope="module")
def clear():
    return make_clusters()


@pytest.fixture(scope="module")
def listed(clear):
    return labelled_states.list_labelled_states(clear, modalities=MODALITIES)
