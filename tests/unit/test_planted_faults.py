import pytest

from tests.faults import FAULTS, Fault
from tests.helpers import REPOSITORY

FOLDERS = (
    *("package/", "build_backend/", "dnnlib/", "torch_utils/", "torch_utils/ops/", "metrics/", "msconD/"),
    *("training/", "training/data/", "training/snapshots/", "training/run/", "training/inference/"),
)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_can_still_be_planted(fault: Fault) -> None:
    assert (REPOSITORY / fault.path).read_text().count(fault.right) == 1
    assert fault.right != fault.wrong
    missing = [test for test in fault.tests if not (REPOSITORY / test.partition("::")[0]).is_file()]
    assert not missing


def test_every_folder_has_one() -> None:
    assert len(FAULTS) >= 24
    planted = {fault.path.rpartition("/")[0] + "/" for fault in FAULTS.values()}
    assert {*FOLDERS, "/"} <= planted  # "/": the scripts
