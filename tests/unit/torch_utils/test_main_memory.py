import psutil
import pytest

from torch_utils import main_memory
from torch_utils.main_memory import is_limited, main_memory_bytes

TOTAL = psutil.virtual_memory().total
MIB = 1 << 20


@pytest.fixture
def limit(tmp_path, monkeypatch):
    """A function that sets the path of the own group, and the limits of groups by file."""
    monkeypatch.setattr(main_memory, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(main_memory, "OWN_GROUPS", tmp_path / "own")

    def write(own, **limits):
        (tmp_path / "own").write_text(own)
        for name, text in limits.items():
            path = tmp_path / "groups" / name.replace("__", "/").replace("memory_", "memory.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")

    return write


def test_without_groups_it_is_that_of_the_machine(limit):
    assert main_memory_bytes() == TOTAL
    assert not is_limited()


@pytest.mark.parametrize("own", ["garbage\n", "0::\n", "0::relative/x\n"])
def test_other_lines_say_nothing(limit, own):
    limit(own)
    assert main_memory_bytes() == TOTAL


def test_a_group_without_limit(limit):
    limit("0::/\n", memory_max="max")
    assert main_memory_bytes() == TOTAL
    limit("4:memory:/\n", memory__memory_limit_in_bytes=2**63 - 4096)
    assert main_memory_bytes() == TOTAL


@pytest.mark.parametrize(
    "limits",
    [
        {"own": "0::/\n", "memory_max": 100 * MIB},  # a container
        {"own": "0::/../job\n", "memory_max": 100 * MIB},
        {"own": "0::/slurm/job/step\n", "slurm__job__step__memory_max": "max", "slurm__job__memory_max": 100 * MIB},
        {"own": "5:cpu,memory:/docker/1a2b\n1:name=systemd:/x:y\n", "memory__memory_limit_in_bytes": 100 * MIB},
        {"own": "4:memory:/a\n0::/\n", "memory__a__memory_limit_in_bytes": 100 * MIB, "memory_max": 200 * MIB},
    ],
)
def test_the_least_limit_counts(limit, limits):
    limit(**limits)
    assert main_memory_bytes() == 100 * MIB
    assert is_limited()
