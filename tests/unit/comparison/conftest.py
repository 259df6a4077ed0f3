"""What the tests of comparisons begin with."""

import pytest

from comparison.plan import read_plan
from comparison.summary import collect
from tests.unit.comparison.fake_runs import write_comparison


@pytest.fixture
def comparison(tmp_path):
    """Two methods with two seeds; see `write_comparison`."""
    return collect(read_plan(write_comparison(tmp_path)), {})
