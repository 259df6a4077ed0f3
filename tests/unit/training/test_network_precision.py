"""Half precision of the networks: which layers, in which dtype and memory format, and how close it comes."""

from __future__ import annotations

import pickle
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from tests.training_runs import everything_random, make_trainer, tiny_options, write_dataset
from torch_utils.ops import conv2d_resample, upfirdn2d
from training import networks
from training.networks import ARCHITECTURES, Discriminator, Generator, bfloat16_training, modulated_conv2d

RESOLUTION = 32
SMALL = {"channel_base": 512, "channel_max": 32}
REL_BF16 = 0.05
"""Rounding to bfloat16 changes a number by up to 1/256, and the networks are some ten layers deep."""


def make_G(**synthesis_kwargs: Any) -> Generator:
    torch.manual_seed(0)
    return Generator(8, 0, 8, RESOLUTION, 3, {"num_layers": 2}, {**SMALL, **synthesis_kwargs}).eval()


def make_D(**kwargs: Any) -> Discriminator:
    torch.manual_seed(1)
    return Discriminator(0, RESOLUTION, 3, **{**SMALL, **kwargs})


def run(net: torch.nn.Module, **kwargs: Any) -> torch.Tensor:
    """Images or logits."""
    torch.manual_seed(2)
    if isinstance(net, Generator):
        output: torch.Tensor = net(torch.randn(8, 8), None, noise_mode="const", **kwargs)
    else:
        output = net(torch.randn(8, 3, RESOLUTION, RESOLUTION), None, **kwargs)
    return output


def gradient(net: torch.nn.Module) -> torch.Tensor:
    run(net).square().sum().backward()
    parts = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
    net.zero_grad()
    return torch.cat(parts)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


def convolution_dtypes(net: torch.nn.Module) -> dict[str, torch.dtype]:
    """In which dtype each layer convolves; low-pass filters must have that of the features."""
    found: dict[str, torch.dtype] = {}
    running: list[str] = []
    convolve, low_pass = conv2d_resample.conv2d_resample, upfirdn2d.upfirdn2d

    def recorded(x: torch.Tensor, w: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        found[running[-1]] = w.dtype
        with mock.patch.object(upfirdn2d, "upfirdn2d", lambda y, *a, **k: low_pass(same(y, x), *a, **k)):
            return convolve(x, w, *args, **kwargs)

    def same(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        assert y.dtype == x.dtype
        return y

    for name, module in net.named_modules():
        module.register_forward_pre_hook(lambda _module, _args, name=name: running.append(name))
    with mock.patch.object(conv2d_resample, "conv2d_resample", recorded):
        run(net)
    return found


def block_outputs(net: torch.nn.Module, **kwargs: Any) -> dict[str, torch.Tensor]:
    """Features after each block, by its name."""
    found: dict[str, torch.Tensor] = {}
    for name, module in net.named_modules():
        if isinstance(module, networks.SynthesisBlock | networks.DiscriminatorBlock):
            short = name.removeprefix("synthesis.")
            module.register_forward_hook(lambda _module, _args, out, short=short: found.update({short: out[0]}))
    run(net, **kwargs)
    return found


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks take the CPU for an accelerator."""
    monkeypatch.setattr(networks, "_is_on_cpu", lambda x: False)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("make", [make_G, make_D])
def test_bfloat16_on_a_cpu_is_close_and_gives_float32(make: Callable[..., Any], architecture: str) -> None:
    net = make(architecture=architecture)
    exact, exact_gradient = run(net), gradient(net)
    with bfloat16_training(RESOLUTION, 4):
        output, output_gradient = run(net), gradient(net)
        features = block_outputs(net)
    assert {tensor.dtype for tensor in (output, output_gradient, *features.values())} == {torch.float32}
    assert 1e-4 < relative_error(output, exact) < REL_BF16
    assert 1e-4 < relative_error(output_gradient, exact_gradient) < REL_BF16


@pytest.mark.parametrize(("num_res", "lowest"), [(0, 64), (1, 32), (2, 16), (3, 8), (4, 8), (9, 8)])
@pytest.mark.parametrize("make", [make_G, make_D])
def test_bfloat16_is_for_convolutions_of_the_highest_resolutions(
    make: Callable[..., Any], num_res: int, lowest: int
) -> None:
    """Not for fromrgb, which would round the images, and torgb, which is a small matrix product."""
    with bfloat16_training(RESOLUTION, num_res):
        found = convolution_dtypes(make(architecture="resnet"))
    blocks = {name: int(name.removeprefix("synthesis.").partition(".")[0][1:]) for name in found}
    halved = {name for name in found if blocks[name] >= lowest and not name.endswith("fromrgb")}
    assert found == {name: torch.bfloat16 if name in halved else torch.float32 for name in found}
    assert sorted({blocks[name] for name in found}) == [4, 8, 16, 32]


def test_force_fp32_and_the_end_of_the_context_give_back_float32() -> None:
    for net in (make_G(), make_D()):
        exact = run(net)
        with bfloat16_training(RESOLUTION, 4):
            half = run(net)
            assert torch.equal(run(net, force_fp32=True), exact)
            with bfloat16_training(RESOLUTION, 0):
                assert torch.equal(run(net), exact)
            with pytest.raises(ValueError, match="must"), bfloat16_training(RESOLUTION, 0):
                net(torch.zeros(1, 1), None)
            assert torch.equal(run(net), half)
        assert torch.equal(run(net), exact)
        assert not torch.equal(half, exact)


def test_pickles_know_nothing_of_it() -> None:
    for net in (make_G(), make_D()):
        before = pickle.dumps(net)
        with bfloat16_training(RESOLUTION, 4):
            run(net)
            assert pickle.dumps(net) == before


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "data.zip", resolution=RESOLUTION)


def phase_gradients(run_dir: Path, options: dict[str, Any]) -> list[torch.Tensor]:
    """Gradients of the four phases in one iteration that changes no weights."""
    found: list[torch.Tensor] = []

    def note(optimizer: torch.optim.Optimizer, *_args: Any) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        assert all(grad.dtype == torch.float32 for grad in grads)
        found.append(torch.cat([torch.empty(0), *(grad.flatten() for grad in grads)]))

    trainer = make_trainer(run_dir, options)
    try:
        with mock.patch.object(torch.optim.Adam, "step", note):
            trainer._iterate()
    finally:
        assert trainer.outputs is not None
        trainer.outputs.close()
        trainer.state.batches.close()
    return found


@pytest.mark.parametrize("cfg", ["auto", "cifar", "msconD", "multiscale"])
def test_an_iteration_in_each_precision(cfg: str, data: Path, tmp_path: Path) -> None:
    """On a CPU fp16 is fp32 with clamped activations, which the first iteration does not reach.

    How far a gradient is from that in float32 depends on how much of it cancels in a batch: with the seeds 0 to 3 the
    path-length penalty's was off by 2 to 11 %. Hence the medians of three seeds.
    """
    flags = everything_random(cfg=cfg, cbase=512, batch=8, batch_gpu=8, mbstd_group=4)
    errors: list[list[float]] = []
    for seed in range(3):
        options = {name: tiny_options(data, 8, precision=name, seed=seed, **flags) for name in ("fp32", "fp16", "bf16")}
        found = {name: phase_gradients(tmp_path / f"{name}-{seed}", each) for name, each in options.items()}
        assert [len(each) for each in found.values()] == [4, 4, 4]
        assert all(map(torch.equal, found["fp16"], found["fp32"]))
        errors.append(list(map(relative_error, found["bf16"], found["fp32"])))
    is_run = [len(each) > 0 for each in found["fp32"]]  # cifar has no path-length penalty
    medians = [statistics.median(each) for each in zip(*errors, strict=True)]
    assert all(1e-5 < median < 2 * REL_BF16 for median, run in zip(medians, is_run, strict=True) if run)


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("make", [make_G, make_D])
def test_features_are_bfloat16_on_accelerators(make: Callable[..., Any]) -> None:
    net = make()
    exact = run(net)
    with bfloat16_training(RESOLUTION, 2):
        features, output, grad = block_outputs(net), run(net), gradient(net)
    halved = {name: tensor.dtype == torch.bfloat16 for name, tensor in features.items()}
    assert halved == {name: name in ("b16", "b32") for name in features}
    assert {output.dtype, grad.dtype} == {torch.float32}
    assert 1e-4 < relative_error(output, exact) < REL_BF16


@pytest.mark.usefixtures("accelerator")
def test_bfloat16_takes_precedence_over_float16() -> None:
    net = make_G(num_fp16_res=2)
    with bfloat16_training(RESOLUTION, 1):
        dtypes = {name: tensor.dtype for name, tensor in block_outputs(net).items()}
    single, half = torch.float32, torch.float16
    assert dtypes == {"b4": single, "b8": single, "b16": half, "b32": torch.bfloat16}


@pytest.mark.usefixtures("accelerator")
@pytest.mark.parametrize("make", [make_G, make_D])
@pytest.mark.parametrize("is_bf16", [False, True])
def test_half_precision_is_channels_last_on_accelerators(make: Callable[..., Any], is_bf16: bool) -> None:
    net = make(num_fp16_res=0 if is_bf16 else 2)
    with bfloat16_training(RESOLUTION, 2 if is_bf16 else 0):
        features = block_outputs(net)
    layouts = {name: tensor.is_contiguous(memory_format=torch.channels_last) for name, tensor in features.items()}
    assert layouts == {name: name in ("b16", "b32") for name in features}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_styles_stay_in_range(dtype: torch.dtype) -> None:
    """bfloat16 has the range of float32, so only float16 needs normalized weights and styles."""
    torch.manual_seed(0)
    x, weight, styles = torch.randn(2, 8, 4, 4), torch.randn(8, 8, 3, 3), 1e6 * (torch.rand(2, 8) + 0.5)
    convolve = conv2d_resample.conv2d_resample
    with mock.patch.object(conv2d_resample, "conv2d_resample", wraps=convolve) as spy:
        y = modulated_conv2d(x.to(dtype), weight, styles, padding=1)
    assert y.dtype == dtype
    assert relative_error(y.float(), modulated_conv2d(x, weight, styles, padding=1)) < 0.02
    assert (spy.call_args.args[0].abs().max() > 1e5) == (dtype == torch.bfloat16)
