"""The images of both sides of a comparison, in batches, of which every process gets its part."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch

from dnnlib.errors import UserError
from dnnlib.formatting import plural
from metrics.datasets import open_dataset
from metrics.generated import generate_batch, shard, to_rgb
from metrics.options import MetricOptions

_GENERATED_PX = 2**22
"""Pixels that the generator draws per batch: 64 images of 256 x 256, 4 of 1024 x 1024."""

_NUM_LOADERS_GPU = 3
"""Processes that read images for a GPU. On a CPU the detector is the bottleneck and gets all cores."""

_MAX_FILTER_CHARS = 100


class Batch(NamedTuple):
    """Some images of this process.

    Attributes:
        indices: Their N indices in the set; at the end of the set an index may come again.
        images: uint8 RGB [N, 3, H, W] on the device.
    """

    indices: list[int]
    images: torch.Tensor


class ImageSet(NamedTuple):
    """Images of one side of a comparison.

    Attributes:
        num_items: Number of images, of all processes together.
        batches: Those of this process.
        dataset: Where they come from; None for a generator.
    """

    num_items: int
    batches: Iterator[Batch]
    dataset: Any


@contextmanager
def real_images(
    opts: MetricOptions,
    max_items: int | None = None,
    batch_size: int | None = None,
    data_loader_kwargs: dict[str, Any] | None = None,
) -> Iterator[ImageSet]:
    """Open the real images and record them in the protocol.

    Args:
        opts: The dataset and the devices.
        max_items: Use the first N images. Default: all.
        batch_size: Images per batch. Default: that of ``opts``.
        data_loader_kwargs: Keywords of ``torch.utils.data.DataLoader``.
    """
    with open_dataset(opts.dataset_kwargs) as dataset:
        num_items = min(len(dataset), max_items or len(dataset))
        _record_images(opts, "real", num_items, dataset.image_shape, dataset)
        batches = _dataset_batches(opts, dataset, num_items, batch_size or opts.batch_size, data_loader_kwargs)
        yield ImageSet(num_items, batches, dataset)


@contextmanager
def generated_images(
    opts: MetricOptions, max_items: int, batch_size: int | None = None, batch_gen: int | None = None
) -> Iterator[ImageSet]:
    """Open the generator, or the dataset that replaces it, and record it in the protocol.

    Args:
        opts: The generator, devices and seed.
        max_items: Number of images to generate; from a dataset, the first N are used.
        batch_size: Images per batch. Default: that of ``opts``.
        batch_gen: Images per batch of the generator. Default: by resolution.

    Raises:
        UserError: There is neither.
    """
    batch_size, dataset = batch_size or opts.batch_size, None
    with ExitStack() as stack:
        if opts.gen_dataset_kwargs is not None:
            dataset = stack.enter_context(open_dataset(opts.gen_dataset_kwargs))
            max_items = min(len(dataset), max_items)
            batches = _dataset_batches(opts, dataset, max_items, batch_size)
            _record_images(opts, "gen", max_items, dataset.image_shape, dataset)
        else:
            G, labels = stack.enter_context(prepared_generator(opts))
            batches = _generated_batches(opts, G, labels, max_items, batch_size, batch_gen)
            _record_images(opts, "gen", max_items, [G.img_channels, G.img_resolution, G.img_resolution])
        if opts.rank == 0:
            _warn_of_different_shapes(opts)
        yield ImageSet(max_items, batches, dataset)


@contextmanager
def prepared_generator(opts: MetricOptions) -> Iterator[tuple[Any, Any]]:
    """Copy the generator to the device and, if it is conditional, open the dataset that provides labels.

    Args:
        opts: The generator and the dataset.

    Yields:
        The generator, and the dataset or None.

    Raises:
        UserError: There is no generator.
    """
    if opts.G is None:
        raise UserError("this metric needs a generator, not a second dataset")
    G: Any = copy.deepcopy(opts.G).eval().requires_grad_(False).to(opts.device)
    opts.protocol.update(G_kwargs=dict(opts.G_kwargs), num_fp16_res=_num_fp16_blocks(G, opts))
    with open_dataset(opts.dataset_kwargs) if G.c_dim > 0 else nullcontext() as labels:
        yield G, labels


def _num_fp16_blocks(G: torch.nn.Module, opts: MetricOptions) -> int:
    """Return the number of synthesis blocks, one per resolution, that compute in half precision here: none on a CPU."""
    if opts.device.type == "cpu" or opts.G_kwargs.get("force_fp32"):
        return 0
    return sum(bool(getattr(module, "use_fp16", False)) for module in G.modules())


def _dataset_batches(
    opts: MetricOptions,
    dataset: Any,
    num_items: int,
    batch_size: int,
    data_loader_kwargs: dict[str, Any] | None = None,
) -> Iterator[Batch]:
    on_gpu = opts.device.type == "cuda"
    if data_loader_kwargs is None:
        data_loader_kwargs = {"num_workers": _NUM_LOADERS_GPU if on_gpu else 0, "pin_memory": on_gpu}
    batch_indices = list(shard(num_items, batch_size, opts.num_gpus, opts.rank))
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=batch_indices,
        generator=torch.Generator(),  # else it would draw from the global one
        **data_loader_kwargs,
    )
    for indices, (images, _labels) in zip(batch_indices, loader, strict=True):
        yield Batch(indices, to_rgb(images.to(opts.device)))


def _generated_batches(
    opts: MetricOptions, G: Any, labels: Any, num_items: int, batch_size: int, batch_gen: int | None
) -> Iterator[Batch]:
    """Generate images; ``labels`` is a dataset or None."""
    batch_gen = batch_gen or max(_GENERATED_PX // G.img_resolution**2, 1)
    for indices in shard(num_items, batch_size, opts.num_gpus, opts.rank):
        parts = [indices[i : i + batch_gen] for i in range(0, len(indices), batch_gen)]
        images = [generate_batch(G, part, opts.seed, labels, opts.device, **opts.G_kwargs) for part in parts]
        yield Batch(indices, torch.cat(images))


def _record_images(opts: MetricOptions, role: str, num_items: int, shape: list[int], dataset: Any = None) -> None:
    """Record number and shape of a set of images, and the content of a folder or zip."""
    opts.protocol.update({f"num_{role}": num_items, f"{role}_shape": list(shape)})
    archive = getattr(dataset, "archive", None)  # datasets of other origin have none
    if opts.rank == 0 and archive is not None:
        opts.protocol[f"{role}_fingerprint"] = archive.fingerprint()
        opts.protocol[f"{role}_resize_filter"] = _resize_filter(archive)


def _resize_filter(archive: Any) -> str | None:
    """Return how the images were resized, according to ``dataset.json``; None if that does not say, or is damaged."""
    try:
        resize_filter = archive.metadata().get("resize_filter")
    except UserError:  # only labels make a damaged file an error
        return None
    is_name = isinstance(resize_filter, str) and len(resize_filter) <= _MAX_FILTER_CHARS
    return resize_filter if is_name else None


def _warn_of_different_shapes(opts: MetricOptions) -> None:
    real, gen = (opts.protocol.get(f"{role}_shape") for role in ("real", "gen"))
    if real is None or gen is None or real == gen:
        return
    texts = (f"{shape[2]}x{shape[1]} with {plural(shape[0], 'color channel')}" for shape in (real, gen))
    print("Warning: the real images are {}, the generated ones {}; the value includes that difference".format(*texts))
