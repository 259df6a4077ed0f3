"""A metric that takes no time, in every Python process whose PYTHONPATH names this folder: ``fd_tiny``.

Real ones take a minute for each snapshot. This one is 100 times the standard deviation of eight generated images.
"""

import importlib.abc
import importlib.util
import sys


class Finder(importlib.abc.MetaPathFinder):
    """Adds the metric as soon as the metrics are imported, and not before: that takes seconds."""

    def find_spec(self, name, path=None, target=None):
        if name != "metrics.metric_main":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_add(module):
            execute(module)
            module.register_metric(fd_tiny)

        spec.loader.exec_module = execute_and_add
        return spec


def fd_tiny(opts):
    import torch

    z = torch.randn([8, opts.G.z_dim], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        img = opts.G(z, torch.zeros([8, opts.G.c_dim]), noise_mode="const")
    return {"fd_tiny": 100 * float(img.std())}


sys.meta_path.insert(0, Finder())
