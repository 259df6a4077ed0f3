import numpy as np
import pytest
import torch

from dnnlib.errors import UserError
from dnnlib.object_names import construct_class_by_name
from metrics.generated import ItemNoise, draw_labels, generate_batch, item_rng, shard, to_rgb, to_uint8
from tests import image_files
from tests.unit.metrics import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("num_items", [1, 9, 10])
@pytest.mark.parametrize("num_gpus", [1, 2, 4])
def test_shards_interleave_to_all_items(num_items, batch_size, num_gpus):
    shards = [list(shard(num_items, batch_size, num_gpus, rank)) for rank in range(num_gpus)]
    assert len({tuple(map(len, batches)) for batches in shards}) == 1  # equal steps
    assert max(map(len, shards[0])) <= batch_size
    flat = [[index for batch in batches for index in batch] for batches in shards]
    assert max(map(max, flat)) < num_items
    interleaved = [index for step in zip(*flat, strict=True) for index in step]
    assert interleaved[:num_items] == list(range(num_items))


def test_item_noise_gives_each_row_its_own():
    with ItemNoise([5, 6, 5], CPU):
        noise = torch.randn([3, 1, 4, 4])
        again = torch.randn(3, 2)
    assert torch.equal(noise[0], noise[2])
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0, 0, 0, :2], again[0])
    with ItemNoise([6], CPU):
        assert torch.equal(torch.randn(1, 1, 4, 4, device=CPU, dtype=torch.float32), noise[1:2])


def test_item_noise_leaves_other_draws_alone():
    torch.manual_seed(3)
    expected = torch.randn(2, 4), torch.rand(3)
    torch.manual_seed(3)
    with ItemNoise([1, 2, 3], CPU):
        torch.randn(3, 5)
        actual = torch.randn(2, 4), torch.rand(3)
    assert all(map(torch.equal, actual, expected))


def test_an_image_does_not_depend_on_its_batch():
    G = tiny.generator()
    together = generate_batch(G, [4, 7, 9], 0, None, CPU)
    alone = torch.cat([generate_batch(G, [index], 0, None, CPU) for index in (4, 7, 9)])
    # A rounding of the batch may move a value over the edge of a level.
    assert (together.int() - alone.int()).abs().max() <= 1
    assert torch.equal(together[1], generate_batch(G, [2, 7, 11], 0, None, CPU)[1])
    assert (together.int() - generate_batch(G, [4, 7, 9], 1, None, CPU).int()).abs().max() > 10


def test_noise_is_part_of_the_item():
    G = tiny.generator()
    random = generate_batch(G, [0], 0, None, CPU).int()
    assert (random - generate_batch(G, [0], 0, None, CPU, noise_mode="none").int()).abs().max() > 1


def test_z_is_normal():
    z = np.stack([item_rng(0, index).randn(4) for index in range(2000)])
    assert abs(z.mean()) < 0.05
    assert abs(np.corrcoef(z, rowvar=False) - np.eye(4)).max() < 0.1


def labeled(tmp_path):
    files = image_files.images(6, size=(8, 8))
    labels = [[name, index % 3] for index, name in enumerate(files)]
    path = image_files.write_folder(tmp_path / "labeled", files, labels)
    return construct_class_by_name(**tiny.dataset_kwargs(path, use_labels=True))


def test_labels_come_from_the_dataset(tmp_path):
    dataset = labeled(tmp_path)
    rngs = [item_rng(0, index) for index in range(60)]
    labels = draw_labels(rngs, 3, dataset, CPU)
    assert labels.shape == (60, 3)
    assert labels.dtype == torch.float32
    assert torch.equal(labels.sum(1), torch.ones(60))
    assert (labels.sum(0) > 5).all()
    assert generate_batch(tiny.generator(c_dim=3), [0, 1], 0, dataset, CPU).shape == (2, 3, 8, 8)


def test_refuses_a_dataset_without_fitting_labels(tmp_path):
    rngs = [item_rng(0, 0)]
    with pytest.raises(UserError, match="conditional on 2 label values, found 3 per image in dataset 'labeled'"):
        draw_labels(rngs, 2, labeled(tmp_path), CPU)
    with pytest.raises(UserError, match="found no dataset"):
        draw_labels(rngs, 2, None, CPU)


def test_pixels_are_quantized_as_in_a_png():
    img = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.999, 1.0, 2.0])
    assert to_uint8(img).tolist() == [0, 0, 64, 128, 255, 255, 255]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_refuses_to_quantize_what_is_not_finite(value):
    img = torch.zeros(2, 3, 4, 4)
    img[1, 2, 3, 3] = value
    with pytest.raises(UserError, match="not finite: training diverged or the network file is damaged"):
        to_uint8(img)


def test_grey_becomes_rgb():
    img = torch.rand(2, 1, 4, 4)
    assert torch.equal(to_rgb(img), img.repeat(1, 3, 1, 1))
    with pytest.raises(UserError, match="1 or 3 channels, got 4"):
        to_rgb(torch.zeros(1, 4, 2, 2))
