import numpy as np
import pytest
import torch

from training import image_grid
from training.dataset import Dataset
from training.image_grid import SampleGrid, grid_size, setup_snapshot_image_grid


class Numbered(Dataset):
    """Image i is i everywhere."""

    def __init__(self, num, labels=None, side_px=1024, **kwargs):
        self.labels = labels
        super().__init__("numbered", [num, 3, side_px, side_px], use_labels=labels is not None, **kwargs)

    def _load_raw_image(self, raw_idx):
        return np.full(self.image_shape, raw_idx, dtype=np.uint8)

    def _load_raw_labels(self):
        return self.labels


def chosen(dataset, **kwargs):
    """Indices of the images in a grid, row by row."""
    (columns, rows), images, labels = setup_snapshot_image_grid(dataset, **kwargs)
    assert images.dtype == np.uint8
    assert images.shape == (columns * rows, *dataset.image_shape)
    assert labels.shape == (columns * rows, dataset.label_dim)
    return images[:, 0, 0, 0].reshape(rows, columns), labels


@pytest.mark.parametrize(
    ("side_px", "size"),
    [(4, (32, 32)), (128, (32, 32)), (256, (30, 16)), (512, (15, 8)), (1024, (7, 4)), (4096, (7, 4))],
)
def test_size(side_px, size):
    assert grid_size(side_px, side_px) == size


def test_images_are_those_of_a_fixed_shuffle():
    order = np.arange(100)
    np.random.RandomState(0).shuffle(order)
    indices, _labels = chosen(Numbered(100))
    assert indices.ravel().tolist() == order[: 7 * 4].tolist()
    assert not np.array_equal(chosen(Numbered(100), random_seed=1)[0], indices)


def test_a_small_dataset_is_repeated():
    indices, _labels = chosen(Numbered(5))
    assert sorted(indices.ravel()[:5]) == list(range(5))
    assert np.array_equal(indices.ravel()[:5], indices.ravel()[5:10])


def test_one_label_per_row_in_order():
    """Three rows have the three labels, the fourth begins again."""
    indices, labels = chosen(Numbered(90, labels=np.arange(90, dtype=np.int64) % 3))
    rows = labels.reshape(4, 7, 3).argmax(2)
    assert (rows == rows[:, :1]).all()
    assert len(set(rows[:3, 0])) == 3
    assert rows[3, 0] == rows[0, 0]
    assert np.array_equal(indices % 3, rows)
    assert len(set(indices[0])) == 7


def test_a_label_with_few_images_fills_its_row():
    indices, labels = chosen(Numbered(20, labels=np.array([0] * 18 + [1] * 2, dtype=np.int64)))
    rows = labels.reshape(4, 7, 2).argmax(2)[:, 0].tolist()
    assert sorted(rows) == [0, 0, 1, 1]
    assert set(indices[rows.index(1)]) == {18, 19}


def test_a_label_goes_on_in_its_next_row():
    indices, labels = chosen(Numbered(90, labels=np.arange(90, dtype=np.int64) % 2))
    assert np.unique(indices).size == 28
    assert (indices % 2 == labels.reshape(4, 7, 2).argmax(2)).all()


def test_labels_that_are_vectors():
    vectors = np.array([[0.5, 1.0], [-1.0, 0.0]], dtype=np.float32).repeat(10, axis=0)
    _indices, labels = chosen(Numbered(20, labels=vectors))
    assert all(len(np.unique(row, axis=0)) == 1 for row in labels.reshape(4, 7, 2))


class Shifted(Numbered):
    """Labels other than those it has stored."""

    def get_label(self, idx):
        return np.roll(super().get_label(idx), idx % 3)


def grid_of_single_labels(dataset, columns, rows):
    """Indices of the images in a grid, found by asking for one label after the other."""
    groups = {}
    for index in np.random.RandomState(0).permutation(len(dataset)):
        groups.setdefault(dataset.get_label(int(index)).tobytes(), []).append(int(index))
    ordered = [groups[key] for key in sorted(groups)]
    starts = [divmod(row, len(ordered)) for row in range(rows)]
    return [
        np.take(ordered[label], earlier * columns + np.arange(columns), mode="wrap").tolist()
        for earlier, label in starts
    ]


def label_sets():
    rng = np.random.RandomState(1)
    vectors = rng.choice(np.array([0.0, -0.0, 1, -1, 0.5, 1e-30, -1e9, 256, 3], np.float32), (9, 3))
    return {
        "gaps": rng.choice([0, 3, 4, 9, 300], 90),
        "one class": np.zeros(9, np.int64),
        "all of one class above 0": np.full(9, 5),
        "a class each": rng.permutation(90),
        "vectors": vectors[rng.randint(9, size=90)],
        "vectors of one number": vectors[rng.randint(9, size=90), :1],
        "a vector each": rng.randn(90, 5).astype(np.float32),
        "zeros and signs": np.array([[0, 1], [1, 0], [-0.0, 1], [0, 0], [-0.0, -0.0]] * 9, np.float32),
        "in the order of Fortran": np.asfortranarray(rng.randint(3, size=(90, 2)).astype(np.float32)),
    }


@pytest.mark.parametrize("kind", label_sets())
@pytest.mark.parametrize("dataset_class", [Numbered, Shifted])
@pytest.mark.parametrize("kwargs", [{}, {"xflip": True}, {"max_size": 7}, {"max_size": 40, "xflip": True}])
def test_labels_are_grouped_as_if_each_were_asked_for(kind, dataset_class, kwargs):
    dataset = dataset_class(len(label_sets()[kind]), labels=label_sets()[kind], **kwargs)
    order = np.random.RandomState(0).permutation(len(dataset))
    rows = image_grid._one_label_per_row(dataset, order, 7, 12).reshape(12, 7)
    assert rows.tolist() == grid_of_single_labels(dataset, 7, 12)


def test_no_label_is_asked_for_alone(monkeypatch):
    """Millions of calls would take ten seconds per process."""
    dataset = Numbered(90, labels=np.arange(90) % 3)
    monkeypatch.setattr(Dataset, "get_label", lambda self, idx: pytest.fail("asked for a label"))
    image_grid._one_label_per_row(dataset, np.arange(90), 7, 4)


class Recorder(torch.nn.Module):
    """A generator whose image is the first number of its latent; it records how it is called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, z, c, **kwargs):
        self.calls.append((len(z), list(c.shape), kwargs))
        return z[:, :1, None, None].expand(-1, 3, 2, 2)


def test_samples_are_drawn_in_batches_with_fixed_noise():
    samples = SampleGrid(Numbered(30), z_dim=5, device=torch.device("cpu"))
    G = Recorder()
    images = samples.draw(G, batch_size=20)
    assert samples.size == (7, 4)
    assert samples.real_img.shape == (28, 3, 1024, 1024)
    assert G.calls == [(20, [20, 0], {"noise_mode": "const"}), (8, [8, 0], {"noise_mode": "const"})]
    assert np.array_equal(images[:, 2, 1, 1], samples.state_dict()["z"][:, 0])


def test_samples_are_those_of_the_checkpoint():
    samples, others = (SampleGrid(Numbered(30), z_dim=5, device=torch.device("cpu")) for _ in range(2))
    assert not torch.equal(samples.state_dict()["z"], others.state_dict()["z"])
    others.load_state_dict(samples.state_dict())
    assert torch.equal(samples.state_dict()["z"], others.state_dict()["z"])
