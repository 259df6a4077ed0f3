import torch
from torch import nn

from torch_utils.misc import print_module_summary


class Pair(nn.Module):
    """Two results, one shared and one own tensor, one submodule called twice."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Identity()))
        self.gain = nn.Parameter(torch.ones([]))
        self.again = self.layers[0]

    def forward(self, x):
        y = self.layers(x)
        return {"y": self.again(x) * self.gain, "rest": [y, "no tensor"]}


def rows(text):
    lines = [line.split() for line in text.splitlines() if line]
    return {line[0]: line[1:] for line in lines}


def test_the_table_counts_every_tensor_once(capsys):
    outputs = print_module_summary(Pair(), [torch.ones(2, 3)])
    assert outputs["y"].shape == (2, 4)
    assert not outputs["y"].requires_grad
    assert rows(capsys.readouterr().out) == {
        "Module": ["Class", "Parameters", "Buffers", "Output", "Type"],
        "Pair.layers.0": ["Linear", "16", "0", "[2,", "4]", "float32"],
        "Pair.layers.1.0": ["BatchNorm1d", "8", "9", "[2,", "4]", "float32"],
        "Pair": ["Pair", "1", "0", "[2,", "4],", "[2,", "4]", "float32"],
        "Total": ["25", "9"],
    }


def test_redundant_lines_on_request_and_a_limit_of_depth(capsys):
    print_module_summary(Pair(), [torch.ones(2, 3)], max_nesting=1, skip_redundant=False)
    table = rows(capsys.readouterr().out)
    assert set(table) == {"Module", "Pair.layers", "Pair", "Total"}
    assert table["Total"] == ["25", "9"]


def test_no_hook_stays_behind():
    module = Pair()
    print_module_summary(module, [torch.ones(2, 3)])
    assert not any(submodule._forward_hooks for submodule in module.modules())
