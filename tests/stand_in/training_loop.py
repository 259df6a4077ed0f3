"""Stand-in for the official training loop: the calls whose names and order StyleGAN2-ADA fixes, and nothing else.

With several processes networks start from a seed per process, and DistributedDataParallel must make them equal.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

import dnnlib
from torch_utils import misc, training_stats


def training_loop(
    run_dir,
    training_set_kwargs,
    data_loader_kwargs,
    G_kwargs,
    D_kwargs,
    opt_kwargs,
    augment_kwargs,
    loss_kwargs,
    num_gpus,
    batch_size,
    batch_gpu,
    total_kimg,
    rank=0,
):
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    make = dnnlib.util.construct_class_by_name
    dataset = make(**training_set_kwargs)
    sampler = misc.InfiniteSampler(dataset=dataset, rank=rank, num_replicas=num_gpus)
    loader = torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=batch_gpu, **data_loader_kwargs)
    shape = {"c_dim": dataset.label_dim, "img_resolution": dataset.resolution, "img_channels": dataset.num_channels}
    G, D = (make(**kwargs, **shape).train().requires_grad_(False) for kwargs in (G_kwargs, D_kwargs))
    augment_pipe = make(**augment_kwargs).train().requires_grad_(False)
    parts = {"G_mapping": G.mapping, "G_synthesis": G.synthesis, "D": D}
    if num_gpus > 1:
        parts = wrapped(parts)
        check_consistency(G, D)
    loss = make(device=torch.device("cpu"), **parts, augment_pipe=augment_pipe, **loss_kwargs)
    optimizers = [(name, net, make(params=net.parameters(), **opt_kwargs)) for name, net in (("G", G), ("D", D))]

    collector = training_stats.Collector()
    rounds = iter(loader)
    for _ in range(int(total_kimg * 1000) // batch_size):
        batch = [next(rounds) for _ in range(batch_size // num_gpus // batch_gpu)]
        for name, module, optimizer in optimizers:
            optimizer.zero_grad()
            module.requires_grad_(True)
            for part in ("main", "reg"):
                for img, c in batch:
                    loss.accumulate_gradients(
                        phase=name + part,
                        real_img=img.to(torch.float32) / 127.5 - 1,
                        real_c=c,
                        gen_z=torch.randn([len(img), G.z_dim]),
                        gen_c=c,
                        sync=img is batch[-1][0],
                        gain=1,
                    )
            module.requires_grad_(False)
            optimizer.step()
    collector.update()
    check_consistency(G, D, ignore_regex=r".*\.w_avg")

    result = {"D": type(D).__name__, "batch_gpu": batch_gpu, "sqrtm_error": sqrtm_error()}
    Path(run_dir, f"rank{rank}.json").write_text(json.dumps(result))
    if rank == 0:
        modules = {"G": G, "D": D, "G_ema": G, "augment_pipe": augment_pipe}
        write_results(run_dir, collector, training_set_kwargs, modules)


def write_results(run_dir, collector, training_set_kwargs, modules):
    Path(run_dir, "stats.jsonl").write_text(json.dumps(collector.as_dict()) + "\n")
    snapshot = {"training_set_kwargs": dict(training_set_kwargs), **{k: m.eval() for k, m in modules.items()}}
    with open(Path(run_dir, "network-snapshot-000000.pkl"), "wb") as f:
        pickle.dump(snapshot, f)


def sqrtm_error():
    _root, error = scipy.linalg.sqrtm(np.eye(2), disp=False)  # SciPy 1.18 takes no disp
    return float(error)


def check_consistency(*modules, **kwargs):
    for module in modules:
        misc.check_ddp_consistency(module, **kwargs)


def wrapped(parts):
    for module in parts.values():
        module.requires_grad_(True)
    ddp = {
        name: torch.nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
        for name, module in parts.items()
    }
    for module in parts.values():
        module.requires_grad_(False)
    return ddp
