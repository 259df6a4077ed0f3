"""Contrastive losses against loops in double precision, closed forms, invariances and the hard cases of gradients."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from msconD import contrastive, views
from msconD.settings import LossSettings

RING = {"neg_dist": 1.2}
VARIANTS = [{}, RING, {"neg": "image"}, {"multi_pos": "mean"}, RING | {"neg": "image"}]


def settings(**changes: Any) -> LossSettings:
    return LossSettings(**{f"con_{name}": value for name, value in changes.items()})


def pixel_loss(proj1: torch.Tensor, proj2: torch.Tensor, distance: torch.Tensor, **changes: Any) -> torch.Tensor:
    return contrastive.pixel_info_nce(proj1, proj2, distance, settings(**changes))[0]


def values_of_queries(
    proj1: torch.Tensor, proj2: torch.Tensor, distance: torch.Tensor, s: LossSettings
) -> tuple[contrastive.Stats, torch.Tensor]:
    """Statistics of each query of the first view, and which queries have a positive."""
    z1, z2 = (contrastive.unit(p).flatten(2).mT for p in (proj1, proj2))
    logits = contrastive.pixel_logits(z1, z2, distance, s, None)
    losses = contrastive.info_nce(logits, s.con_multi_pos)
    return contrastive.query_stats(logits, losses, s), logits.positive.any(2)


def random_case(
    num: int, height: int = 2, width: int = 5, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two projections and distances of 0 to 2 without geometric sense."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    proj1, proj2 = torch.randn(2, num, width, height, height, **options)
    return proj1, proj2, torch.rand(num, height**2, height**2, **options) * 2


def one_way_by_loops(z1: torch.Tensor, z2: torch.Tensor, distance: torch.Tensor, s: LossSettings) -> float:
    num_images, num_cells, _ = z1.shape
    image_losses = []
    for n in range(num_images):
        losses = []
        for i in range(num_cells):
            positives, negatives = [], []
            for m in range(num_images):
                for j in range(num_cells):
                    logit = sum(a * b for a, b in zip(z1[n, i].tolist(), z2[m, j].tolist(), strict=True)) / s.con_temp
                    if m != n:
                        negatives += [logit] if s.con_neg == "batch" else []
                    elif distance[n, i, j] < s.con_pos_dist:
                        positives.append(logit)
                    elif distance[n, i, j] >= s.con_neg_dist:
                        negatives.append(logit)
            if positives:
                total = math.log(sum(map(math.exp, positives + negatives)))
                attraction = math.log(sum(map(math.exp, positives)))
                if s.con_multi_pos == "mean":
                    attraction = sum(positives) / len(positives)
                losses.append(total - attraction)
        if losses:
            image_losses.append(sum(losses) / len(losses))
    return sum(image_losses) / max(len(image_losses), 1)


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("changes", VARIANTS)
def test_pixel_loss_equals_loops(num: int, changes: dict[str, Any]) -> None:
    proj1, proj2, distance = random_case(num)
    distance[0, 1] = 2  # a query without a positive
    z1, z2 = (contrastive.unit(p).flatten(2).mT for p in (proj1, proj2))
    s = settings(**changes)
    expected = (one_way_by_loops(z1, z2, distance, s) + one_way_by_loops(z2, z1, distance.mT, s)) / 2
    assert abs(pixel_loss(proj1, proj2, distance, **changes) - expected) < 1e-12
    single = pixel_loss(proj1.float(), proj2.float(), distance, **changes)
    assert single.dtype == torch.float32
    assert abs(single - expected) < 2e-6


@pytest.mark.parametrize(("temperature", "expected"), [(0.07, 2.187e-5), (0.2, 0.2117413), (0.3, 0.8103032)])
def test_orthonormal_embeddings_with_identity_positives(temperature: float, expected: float) -> None:
    proj = torch.eye(36, dtype=torch.float64).reshape(4, 3, 3, 36).permute(0, 3, 1, 2)  # [4, 36, 3, 3]
    distance = 1 - torch.eye(9).repeat(4, 1, 1)
    assert abs(pixel_loss(proj, proj, distance, temp=temperature) / expected - 1) < 1e-4


@pytest.mark.parametrize(
    ("num_pos", "multi_pos", "expected"), [(1, "sum", 3.583519), (3, "sum", 2.484907), (3, "mean", 3.583519)]
)
def test_collapsed_embeddings(num_pos: int, multi_pos: str, expected: float) -> None:
    proj = torch.ones(4, 7, 3, 3, dtype=torch.float64)
    near = sum(torch.eye(9).roll(k, 1) for k in range(num_pos))
    distance = (1 - near).repeat(4, 1, 1)
    loss, stats = contrastive.pixel_info_nce(proj, proj, distance, settings(multi_pos=multi_pos))
    assert abs(loss - expected) < 1e-6
    assert abs(stats["excess"]) < 1e-6  # which is how D guesses


@pytest.mark.parametrize("changes", VARIANTS)
def test_invariances(changes: dict[str, Any]) -> None:
    proj1, proj2, distance = random_case(3)
    loss = pixel_loss(proj1, proj2, distance, **changes)
    scale = torch.rand(3, 1, 2, 2, dtype=torch.float64) * 100 + 0.01
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    order = torch.tensor([2, 0, 1])

    def rotate(p: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ij,njhw->nihw", rotation, p)

    for same in [
        pixel_loss(proj1 * scale, proj2 * scale.flip(0), distance, **changes),
        pixel_loss(proj2, proj1, distance.mT, **changes),
        pixel_loss(proj1[order], proj2[order], distance[order], **changes),
        pixel_loss(rotate(proj1), rotate(proj2), distance, **changes),
    ]:
        assert abs(same - loss) < 1e-12


@pytest.mark.parametrize("neg", ["batch", "image"])
def test_an_ignored_cell_has_no_effect(neg: str) -> None:
    proj1, proj2, distance = random_case(2)
    distance[:, :, 0] = 1.0  # cell 0 of the second view is in the ring of every cell
    changed = proj2.clone()
    changed[0, :, 0, 0] *= -1
    s = settings(neg=neg, **RING)
    directions = [
        contrastive.pixel_logits(*(contrastive.unit(p).flatten(2).mT for p in (proj1, second)), distance, s, None)
        for second in (proj2, changed)
    ]
    before, after = (contrastive.info_nce(direction, "sum")[0] for direction in directions)
    assert torch.allclose(before, after, atol=1e-12)
    without_ring = [pixel_loss(proj1, second, distance, neg=neg) for second in (proj2, changed)]
    assert abs(without_ring[0] - without_ring[1]) > 1e-3


@pytest.mark.parametrize("neg", ["batch", "image"])
def test_other_images_count_only_when_asked(neg: str) -> None:
    proj1, proj2, distance = random_case(2)
    distance[1] = 2  # no positives in image 1: it can only serve as negatives
    other1, other2 = proj1.clone(), proj2.clone()
    other1[1], other2[1] = torch.randn(2, 5, 2, 2, dtype=torch.float64)
    difference = pixel_loss(proj1, proj2, distance, neg=neg) - pixel_loss(other1, other2, distance, neg=neg)
    assert (difference.abs() > 1e-3) == (neg == "batch")


@pytest.mark.parametrize("changes", VARIANTS)
def test_gradients_of_the_pixel_loss(changes: dict[str, Any]) -> None:
    proj1, proj2, distance = random_case(2)
    proj1.requires_grad_()
    proj2.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: pixel_loss(a, b, distance, **changes), (proj1, proj2))


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("kind", ["zero", "one image", "no positives", "huge", "float16"])
def test_gradients_stay_finite(changes: dict[str, Any], kind: str) -> None:
    proj1, proj2, distance = random_case(1 if kind == "one image" else 3)
    factor = {"zero": 0.0, "huge": 1e4}.get(kind, 1.0)
    dtype = torch.float16 if kind == "float16" else torch.float32
    proj1, proj2 = ((p * factor).to(dtype).requires_grad_() for p in (proj1, proj2))
    loss = pixel_loss(proj1, proj2, distance + (kind == "no positives") * 2, **changes)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    for grad in (proj1.grad, proj2.grad):
        assert grad.isfinite().all()
        assert (grad.abs().max() > 0) == (kind not in ("zero", "no positives"))
    assert (loss == 0) == (kind == "no positives")


def test_an_image_without_overlap_drops_out() -> None:
    proj1, proj2, distance = random_case(3)
    distance[2] = 2
    loss = pixel_loss(proj1, proj2, distance, neg="image")
    assert torch.isclose(loss, pixel_loss(proj1[:2], proj2[:2], distance[:2], neg="image"))


def test_queries_are_drawn_without_replacement_and_valid_ones_first() -> None:
    valid = torch.tensor([[True, False, True, True], [False, False, True, False]])
    drawn = torch.stack([contrastive.sample_queries(valid, 2) for _ in range(600)])
    assert (drawn[..., 0] != drawn[..., 1]).all()
    counts = torch.stack([(drawn == cell).any(-1).float().mean(0) for cell in range(4)])
    assert counts[1, 0] == 0
    assert counts[2, 1] == 1
    assert (counts[[0, 2, 3], 0] - 2 / 3).abs().max() < 0.08


def test_sampled_queries_average_to_the_full_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    proj1, proj2, distance = random_case(2)
    full = pixel_loss(proj1, proj2, distance)
    everything = pixel_loss(proj1, proj2, distance, max_anchors=8)
    assert torch.equal(everything, full)

    distance[:, 1, :] = 2  # so that a query of the first view is invalid
    full = pixel_loss(proj1, proj2, distance)
    valid = [(d < 0.7).any(2) for d in (distance, distance.mT)]
    losses = []
    choices = [[list(itertools.combinations(v.nonzero()[:, 0].tolist(), 2)) for v in way] for way in valid]
    for picks in itertools.product(*(c for way in choices for c in way)):
        queue = [torch.tensor(picks[:2]), torch.tensor(picks[2:])]
        monkeypatch.setattr(contrastive, "sample_queries", lambda _, num, queue=queue: queue.pop(0))
        losses.append(pixel_loss(proj1, proj2, distance, max_anchors=4))
    assert len(losses) > 1
    assert torch.isclose(torch.stack(losses).mean(), full, atol=1e-12, rtol=0)


def nt_xent_by_loops(z1: torch.Tensor, z2: torch.Tensor, temperature: float) -> float:
    both = torch.cat([z1, z2]).tolist()
    num, total = len(z1), 0.0
    for i, anchor in enumerate(both):
        logits = {k: sum(a * b for a, b in zip(anchor, key, strict=True)) / temperature for k, key in enumerate(both)}
        del logits[i]
        total += math.log(sum(map(math.exp, logits.values()))) - logits[(i + num) % (2 * num)]
    return total / len(both)


@pytest.mark.parametrize("num", [1, 2, 5])
def test_instance_loss_equals_loops(num: int) -> None:
    proj1, proj2 = torch.randn(2, num, 6, dtype=torch.float64)
    loss, stats = contrastive.instance_nt_xent(proj1, proj2, 0.2)
    assert abs(loss - nt_xent_by_loops(contrastive.unit(proj1), contrastive.unit(proj2), 0.2)) < 1e-12
    assert torch.isclose(stats["loss"].mean(), loss)


def test_instance_loss_of_collapsed_vectors() -> None:
    ones = torch.ones(5, 3)
    loss, stats = contrastive.instance_nt_xent(ones, ones, 0.2)
    assert math.isclose(loss, math.log(9), rel_tol=1e-6)
    means = {name: value.mean().item() for name, value in stats.items() if name != "top1"}
    expected = {"loss": math.log(9), "excess": 0, "pos_sim": 1, "neg_sim": 1, "norm": 3**0.5, "uniformity": 0}
    assert means == pytest.approx(expected, abs=1e-6)


def test_instance_gradients() -> None:
    proj1, proj2 = torch.randn(2, 3, 4, dtype=torch.float64)
    inputs = (proj1.requires_grad_(), proj2.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: contrastive.instance_nt_xent(a, b, 0.2)[0], inputs)
    zeros = torch.zeros(1, 4, requires_grad=True)
    contrastive.instance_nt_xent(zeros, zeros, 0.2)[0].backward()
    assert zeros.grad.isfinite().all()


def test_statistics_of_perfect_embeddings() -> None:
    num, height = 3, 2
    proj = torch.eye(12).reshape(num, height, height, 12).permute(0, 3, 1, 2) * 5
    theta = views.identity_thetas(num)
    loss, stats = contrastive.pixel_info_nce(proj, proj, views.cell_distances(theta, theta, height), settings())
    assert {name: value.mean().item() for name, value in stats.items()} == pytest.approx(
        {
            "loss": loss.item(),
            "excess": loss.item() - math.log(12),
            "top1": 1,
            "pos_sim": 1,
            "neg_sim": 0,
            "num_pos": 1,
            "valid_frac": 1,
            "empty_imgs": 0,
            "norm": 5,
            "uniformity": -4,
        },
        abs=1e-6,
    )


@pytest.mark.parametrize("changes", [{"neg": "image"}, {}])
@pytest.mark.parametrize("multi_pos", ["sum", "mean"])
def test_queries_whose_keys_are_all_excluded_count_for_nothing(changes: dict[str, Any], multi_pos: str) -> None:
    proj1, proj2, distance = random_case(1, seed=1)
    distance[:] = 2  # neither positive nor negative
    distance[0, 0, 0] = 0.1
    loss, stats = contrastive.pixel_info_nce(
        proj1.requires_grad_(), proj2, distance, settings(neg_dist=3.0, multi_pos=multi_pos, **changes)
    )
    assert loss.item() == pytest.approx(0, abs=1e-6)  # the only key of the only query that counts is its positive
    assert all(value.isfinite().all() for value in stats.values())
    (gradient,) = torch.autograd.grad(loss, proj1)
    assert gradient.isfinite().all()


def test_statistics_count_what_they_say() -> None:
    proj1, proj2, distance = random_case(3, seed=1)
    distance[1] = 2
    for changes in VARIANTS:
        _, stats = contrastive.pixel_info_nce(proj1, proj2, distance, settings(**changes))
        values, found = values_of_queries(proj1, proj2, distance, settings(**changes))
        positive = distance < 0.7
        valid = positive.any(2)
        assert torch.equal(found, valid)
        assert torch.equal(values["num_pos"], positive.sum(2).float())
        for name, value in values.items():
            assert torch.isclose(stats[name], value[valid].double().mean(), rtol=1e-6), name
        assert torch.equal(stats["valid_frac"], valid.float().flatten())
        assert stats["empty_imgs"].tolist() == [0, 1, 0]
        assert set(values["top1"].flatten().tolist()) <= {0.0, 1.0}
        assert all(not value.requires_grad for value in stats.values())


@pytest.mark.parametrize("changes", VARIANTS)
def test_statistics_equal_their_definitions(changes: dict[str, Any]) -> None:
    proj1, proj2, distance = random_case(3, seed=3)
    s = settings(**changes)
    stats, _ = values_of_queries(proj1, proj2, distance, s)
    z1, z2 = (contrastive.unit(p).flatten(2).mT for p in (proj1, proj2))
    cosine, positive, negative = z1 @ z2.mT, distance < s.con_pos_dist, distance >= max(s.con_pos_dist, s.con_neg_dist)
    valid = positive.any(2)
    num_keys = (positive | negative).sum(2) + (8 if s.con_neg == "batch" else 0)  # 2 other images of 4 cells
    expected = {
        "pos_sim": (cosine * positive).sum(2) / positive.sum(2),
        "neg_sim": (cosine * negative).sum(2) / negative.sum(2).clamp(min=1),
        "num_pos": positive.sum(2).double(),
    }
    for name, values in expected.items():
        assert torch.allclose(stats[name].double()[valid], values[valid], atol=1e-6), name
    guessing = (num_keys / (positive.sum(2) if s.con_multi_pos == "sum" else 1)).log()[valid]
    assert torch.allclose((stats["loss"] - stats["excess"])[valid], guessing.double(), atol=1e-6)


def test_queries_with_a_positive_are_sampled_first() -> None:
    proj1, proj2, distance = random_case(2, height=4)
    distance[:, 5:] = 2  # 5 cells of the first view have a positive
    for num_queries, num_valid in ((3, 3), (5, 5), (8, 5)):
        _, valid = values_of_queries(proj1, proj2, distance, settings(max_anchors=2 * num_queries))
        assert valid.shape == (2, num_queries)
        assert valid.sum() == 2 * num_valid


def test_top1_is_the_nearest_key() -> None:
    proj1, proj2, distance = random_case(3, seed=2)
    values, valid = values_of_queries(proj1, proj2, distance, settings())
    z1, z2 = (contrastive.unit(p).flatten(2).mT.flatten(0, 1) for p in (proj1, proj2))
    positive = torch.block_diag(*(distance < 0.7).int()).bool()
    nearest = (z1 @ z2.mT).argmax(1)
    hits = positive[torch.arange(12), nearest][positive.any(1)]
    assert 0 < hits.float().mean() < 1
    assert torch.equal(values["top1"][valid], hits.float())


@pytest.mark.parametrize("changes", VARIANTS)
def test_transposed_logits_are_those_of_the_other_direction(changes: dict[str, Any]) -> None:
    """With a gather function both directions are computed, without one the second is the first, transposed."""
    proj1, proj2, distance = (x.requires_grad_(x.ndim == 4) for x in random_case(3))
    results = []
    for gather in (None, lambda keys: keys):
        loss, stats = contrastive.pixel_info_nce(proj1, proj2, distance, settings(**changes), gather)
        results.append([loss, *torch.autograd.grad(loss, (proj1, proj2)), *stats.values()])
    for transposed, computed in zip(*results, strict=True):
        assert torch.allclose(transposed, computed, atol=1e-12, rtol=0)


def images_of_places(num: int, size: int = 64) -> torch.Tensor:
    """Images whose pixels hold a code of their place: near places have similar codes."""
    ticks = (torch.arange(size) * 2 + 1) / size - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack([x.mul(1.5).cos(), x.mul(1.5).sin(), y.mul(1.5).cos(), y.mul(1.5).sin()]).repeat(num, 1, 1, 1)


def test_embeddings_of_the_place_solve_the_task_at_every_scale() -> None:
    torch.manual_seed(0)
    img = images_of_places(20)
    thetas = [views.sample_thetas(len(img), (0.2, 1.0)) for _ in range(2)]
    seen = [views.apply_thetas(img, theta) for theta in thetas]
    projs = [{1: view.flatten(1), **{h: F.adaptive_avg_pool2d(view, h) for h in (8, 16)}} for view in seen]
    losses, stats = contrastive.multiscale_losses(*projs, *thetas, settings(neg="image"))
    assert list(losses) == [1, 8, 16]
    assert {name for name in stats if name.startswith("loss")} == {"loss_h1", "loss_h8", "loss_h16"}
    for h in (8, 16):
        assert stats[f"top1_h{h}"].mean() > 0.95
        assert stats[f"pos_sim_h{h}"].mean() > 0.98


def test_statistics_of_nothing_are_0_or_empty() -> None:
    proj1, proj2, distance = random_case(1)
    for changes in VARIANTS:
        _, stats = contrastive.pixel_info_nce(proj1, proj2, distance + 2, settings(**changes))
        assert all(stats[name] == 0 for name in ("loss", "excess", "top1", "pos_sim", "neg_sim", "num_pos"))
    _, stats = contrastive.instance_nt_xent(proj1[:, :, 0, 0], proj2[:, :, 0, 0], 0.2)
    assert stats["neg_sim"].numel() == stats["uniformity"].numel() == 0


def test_statistics_of_a_single_image_are_defined_or_empty() -> None:
    proj1, proj2, distance = random_case(1)
    distance[:, 1] = 2  # a query without a positive
    for changes in VARIANTS:
        _, stats = contrastive.pixel_info_nce(proj1, proj2, distance, settings(**changes))
        _, more = contrastive.instance_nt_xent(proj1[:, :, 0, 0], proj2[:, :, 0, 0], 0.2)
        assert all(value.isfinite().all() for value in (*stats.values(), *more.values()))


@pytest.mark.parametrize("changes", [*VARIANTS, {"max_anchors": 64}])
def test_no_shape_depends_on_values(changes: dict[str, Any]) -> None:
    """On a GPU such a shape makes the host wait; tensors without values cannot have one."""
    shapes = {1: (3, 5), 8: (3, 5, 8, 8)}
    proj1, proj2 = (
        {h: torch.empty(shape, device="meta", requires_grad=True) for h, shape in shapes.items()} for _ in range(2)
    )
    theta1, theta2 = (views.sample_thetas(3, (0.2, 1.0), "meta") for _ in range(2))
    losses, stats = contrastive.multiscale_losses(proj1, proj2, theta1, theta2, settings(**changes))
    sum(losses.values()).backward()
    assert all(x.grad is not None for proj in (proj1, proj2) for x in proj.values())
    assert {value.device.type for value in stats.values()} == {"meta"}
