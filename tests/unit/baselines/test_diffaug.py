import math

import pytest
import torch

from baselines.diffaug import DiffAugment, change_color, cut_out, translate

NUM, HEIGHT, WIDTH = 5, 8, 12


@pytest.fixture
def img():
    return torch.randn([NUM, 3, HEIGHT, WIDTH], dtype=torch.float64)


def test_color(img):
    brightness, saturation, contrast = (torch.rand([NUM, 1, 1, 1], dtype=torch.float64) for _ in range(3))
    for i in range(NUM):
        x = img[i] + brightness[i].item() - 0.5
        grey = sum(x[channel] for channel in range(3)) / 3
        x = (x - grey) * 2 * saturation[i].item() + grey
        x = (x - x.mean()) * (contrast[i].item() + 0.5) + x.mean()
        found = change_color(img, brightness, saturation, contrast)[i]
        assert torch.allclose(found, x, atol=1e-12)


def test_translation(img):
    down, right = torch.tensor([0, 1, -2, 8, -1]), torch.tensor([0, -3, 2, 0, 12])
    expected = torch.zeros_like(img)
    for i in range(NUM):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                from_y, from_x = y - int(down[i]), x - int(right[i])
                if 0 <= from_y < HEIGHT and 0 <= from_x < WIDTH:
                    expected[i, :, y, x] = img[i, :, from_y, from_x]
    assert torch.equal(translate(img, down, right), expected)


@pytest.mark.parametrize("sides", [[4, 6], [3, 5], [1, 2]])
def test_cutout(img, sides):
    rows, columns = torch.tensor([0, 3, 7, 8, 4]), torch.tensor([0, 11, 5, 12, 2])
    expected = img.clone()
    for i in range(NUM):
        top, left = int(rows[i]) - sides[0] // 2, int(columns[i]) - sides[1] // 2
        for y in range(top, top + sides[0]):
            for x in range(left, left + sides[1]):
                if 0 <= y < HEIGHT and 0 <= x < WIDTH:
                    expected[i, :, y, x] = 0
    assert torch.equal(cut_out(img, [rows, columns], sides), expected)


def test_ranges():
    ones = torch.ones([2000, 3, 16, 16])
    moved = DiffAugment("translation")(ones)
    shifts = {(int(16 - image[0].any(dim=1).sum()), int(16 - image[0].any(dim=0).sum())) for image in moved}
    assert {max(shift) for shift in shifts} == {0, 1, 2}, "up to an eighth of the image"
    cut = DiffAugment("cutout", cutout_ratio=0.5)(ones)
    areas = {int((image[0] == 0).sum()) for image in cut}
    assert max(areas) == 64, "half of the side"
    assert min(areas) == 16, "at a corner a quarter of it"
    colored = DiffAugment("color")(torch.zeros([2000, 3, 2, 2]))
    assert -0.5 <= float(colored.min()) < -0.48
    assert 0.48 < float(colored.max()) <= 0.5


def test_one_draw_per_image_and_gradients():
    img = torch.rand([2, 3, 16, 16], requires_grad=True)
    img = torch.cat([img[:1], img[:1]])
    out = DiffAugment()(img)
    assert not torch.equal(out[0], out[1])
    (grad,) = torch.autograd.grad(out.sum(), img)
    assert bool(grad.isfinite().all())
    assert float(grad.abs().sum()) > 0


def test_policy():
    img = torch.ones([8, 3, 16, 16])
    assert not torch.equal(DiffAugment("cutout")(img), img)
    assert set(DiffAugment("cutout")(img).unique().tolist()) == {0, 1}
    assert math.isclose(float(DiffAugment("cutout", cutout_ratio=0)(img).mean()), 1)


def test_transforms_follow_the_order_of_the_policy():
    img = torch.ones([8, 3, 16, 16])
    cut_last, cut_first = DiffAugment("color,cutout")(img), DiffAugment("cutout,color")(img)
    assert (cut_last == 0).any()
    assert not (cut_first == 0).any(), "brightness changes what was cut out"
