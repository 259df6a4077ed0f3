"""The phases of a small iteration, built from flags of ``train.py``."""

from __future__ import annotations

import click
import pytest
import torch

from benchmarks import iteration
from benchmarks.iteration import build_iteration, parse_flags
from dnnlib.errors import UserError
from training import networks

TINY = ("--cfg=paper256", "--cbase=64", "--map-depth=2", "--batch-gpu=4", "--mbstd-group=4")


def test_flags_are_those_of_train():
    flags = parse_flags(["--cfg=msconD", "--batch-gpu=8", "--gpus=2", "--aug=noaug", "--con-weight=0.5"])
    assert (flags.cfg, flags.batch_gpu, flags.aug) == ("msconD", 8, "noaug")
    assert flags.batch == 16  # one round
    assert flags.settings == {"con_weight": 0.5}
    assert parse_flags(["--batch=32", "--batch-gpu=8"]).batch == 32
    with pytest.raises(click.UsageError, match="--batchgpu"):
        parse_flags(["--batchgpu=8"])


def test_contradictions_are_errors():
    with pytest.raises(UserError, match="must divide"):
        build_iteration(parse_flags(["--batch=8", "--batch-gpu=3"]), 32, torch.device("cpu"))


def test_phases_train_the_networks():
    built = build_iteration(parse_flags(TINY), 8, torch.device("cpu"))
    assert {phase.name: phase.interval for phase in built.phases} == {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16}
    assert built.loss.augment_pipe.p == iteration.TYPICAL_P
    for phase in built.phases:
        before = [parameter.clone() for parameter in phase.module.parameters()]
        built.run(phase)
        changed = [not old.equal(new) for old, new in zip(before, phase.module.parameters(), strict=True)]
        assert any(changed)


def test_rounds_share_a_batch():
    built = build_iteration(parse_flags([*TINY, "--batch=12", "--aug=noaug"]), 8, torch.device("cpu"))
    assert [tuple(each.real_img.shape) for each in built.rounds] == [(4, 3, 8, 8)] * 3
    assert built.loss.augment_pipe is None


def test_bfloat16_is_entered_around_a_phase():
    built = build_iteration(parse_flags([*TINY, "--precision=bf16"]), 8, torch.device("cpu"))
    seen = []
    built.loss.accumulate_gradients = lambda **_: seen.append(networks._bf16_resolution)
    built.run(built.phases[0])
    assert seen == [8]
    assert networks._bf16_resolution > 8
