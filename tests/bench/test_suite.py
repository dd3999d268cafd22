from __future__ import annotations

import pytest

from ima.bench import suite
from ima.errors import UnknownNameError


def test_patterns_pick_benchmarks():
    assert "capture/opt-125m/2" in suite.list_benchmarks()
    with pytest.raises(UnknownNameError, match="Unknown benchmark 'x'"):
        list(suite.run_benchmarks(["x"]))
