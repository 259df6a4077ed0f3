import copy

import pytest
import torch
from torch.nn.functional import softplus

from baselines.diffaug import DiffAugment
from baselines.insgen.discriminator import InsGenDiscriminator
from baselines.insgen.head import ContrastiveHead, info_nce
from baselines.insgen.loss import InsGenLoss
from tests.unit.baselines.toy import (
    CAPACITY,
    SIZE,
    assert_close,
    expected_gradients,
    gradients,
    inputs,
    make_loss,
)
from training.networks import Discriminator

MBSTD = {"epilogue_kwargs": {"mbstd_num_channels": 0}}
QUEUE = 6


def make_insgen(**kwargs):
    D = InsGenDiscriminator(**SIZE, **CAPACITY, **MBSTD)
    return make_loss(InsGenLoss, D=D, rqs=QUEUE, fqs=QUEUE + 1, **kwargs)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def slow_nce(queries, keys, queue, t):
    total = 0
    for q, k in zip(unit(queries), unit(keys), strict=True):
        positive = torch.exp(q @ k / t)
        total = total - torch.log(positive / (positive + sum(torch.exp(q @ other / t) for other in queue)))
    return total / len(queries)


def features(D, img):
    return D(img, None, with_features=True).features


def test_info_nce():
    queries, keys, queue = (unit(torch.randn([num, 5], dtype=torch.float64)) for num in (4, 4, 7))
    assert float(info_nce(queries, keys, queue, 0.2).mean()) == pytest.approx(
        float(slow_nce(queries, keys, queue, 0.2))
    )


def test_queue_is_a_ring():
    head = ContrastiveHead(3, queue_size=5, out_features=2)
    assert torch.allclose(head.queue.norm(dim=1), torch.ones(5))
    keys = torch.arange(22.0).reshape(11, 2)
    head.enqueue(keys[:3])
    assert torch.equal(head.queue[:3], keys[:3])
    head.enqueue(keys[3:6])
    assert torch.equal(head.queue, keys[[5, 1, 2, 3, 4]])
    head.enqueue(keys[:11])
    assert {tuple(row) for row in head.queue.tolist()} == {tuple(row) for row in keys[6:].tolist()}, "the last five"
    head.enqueue(torch.zeros([1, 2]))
    assert keys[6].tolist() not in head.queue.tolist(), "the oldest goes first"


def test_momentum_copies_move_once_an_iteration():
    loss = make_insgen(insgen_momentum=0.9)
    before = copy.deepcopy(loss.D_ema)
    with torch.no_grad():
        for parameter in [*loss.D.parameters(), *loss.head_of["DHead"].online.parameters()]:
            parameter.add_(1)
    head_before = copy.deepcopy(loss.head_of["DHead"].momentum)
    loss.begin_iteration()
    for average, old, new in zip(loss.D_ema.parameters(), before.parameters(), loss.D.parameters(), strict=True):
        assert torch.allclose(average, 0.9 * old + 0.1 * new, atol=1e-6)
    head = loss.head_of["DHead"]
    for average, old, new in zip(
        head.momentum.parameters(), head_before.parameters(), head.online.parameters(), strict=True
    ):
        assert torch.allclose(average, 0.9 * old + 0.1 * new, atol=1e-6)


def test_logits_are_those_of_stylegan2():
    D = InsGenDiscriminator(**SIZE, **CAPACITY, **MBSTD)
    plain = Discriminator(**SIZE, **CAPACITY, **MBSTD)
    plain.load_state_dict(D.state_dict())
    img = torch.randn([2, 3, 8, 8])
    assert torch.equal(plain(img, None), D(img, None))
    assert torch.equal(D(img, None), D(img, None, with_features=True).logits)


def test_discriminator_and_heads():
    """Without augmentation; the noise that is added to z is the next that is drawn."""
    loss = make_insgen(insgen_real_weight=0.7, insgen_fake_weight=0.4)
    arguments = inputs()
    real, fake = loss.head_of["DHead"], loss.head_of["GHead"]
    loss.D_ema.load_state_dict({name: x * 1.1 for name, x in loss.D_ema.state_dict().items()})
    with torch.no_grad():
        fake_img = loss.run_G(arguments["gen_z"], None, sync=False)[0]
        state = torch.get_rng_state()
        noisy_z = arguments["gen_z"] + 0.15 * torch.randn_like(arguments["gen_z"])
        key_img = loss.run_G(noisy_z, None, sync=False)[0]
    queues = {"DHead": real.queue.clone(), "GHead": fake.queue.clone()}

    def definition():
        total = (softplus(loss.D(fake_img, None)) + softplus(-loss.D(arguments["real_img"], None))).mean()
        with torch.no_grad():
            k_real = real.momentum(features(loss.D_ema, arguments["real_img"]))
            k_fake = fake.momentum(features(loss.D_ema, key_img))
        q_real = real.online(features(loss.D, arguments["real_img"]))
        q_fake = fake.online(features(loss.D, fake_img))
        total = total + 0.7 * slow_nce(q_real, k_real, queues["DHead"], 0.2)
        return total + 0.4 * slow_nce(q_fake, k_fake, queues["GHead"], 0.2)

    trained = torch.nn.ModuleList([loss.D, *loss.trained_with("D")])
    expected = expected_gradients(trained, definition)
    k_real = unit(real.momentum(features(loss.D_ema, arguments["real_img"])))
    k_online = unit(fake.momentum(features(loss.D, fake_img)))
    torch.set_rng_state(state)
    assert_close(gradients(loss, "Dmain", trained, arguments), expected, tolerance=1e-5)
    assert torch.allclose(real.queue[:4], k_real, atol=1e-6)
    assert torch.allclose(fake.queue[:4], k_online, atol=1e-6), "the momentum head on the online features"


def test_generator():
    loss = make_insgen(insgen_g_weight=0.3)
    arguments = inputs()
    head = loss.head_of["GHead"]
    queue = head.queue.clone()

    def definition():
        img = loss.run_G(arguments["gen_z"], None, sync=False)[0]
        with torch.no_grad():
            keys = head.momentum(features(loss.D_ema, img))
        nce = slow_nce(head.online(features(loss.D, img)), keys, queue, 0.2)
        return softplus(-loss.D(img, None)).mean() + 0.3 * nce

    expected = expected_gradients(loss.G_synthesis, definition)
    assert_close(gradients(loss, "Gmain", loss.G_synthesis, arguments), expected, tolerance=1e-5)
    assert torch.equal(head.queue, queue), "nothing is enqueued"


def test_regularization_is_that_of_stylegan2():
    loss, plain = make_insgen(r1_gamma=2), make_loss(r1_gamma=2)
    plain.D.load_state_dict(loss.D.state_dict())
    arguments = inputs()
    trained = torch.nn.ModuleList([loss.D, *loss.trained_with("D")])
    found = gradients(loss, "Dreg", trained, arguments)
    expected = gradients(plain, "Dreg", plain.D, arguments)
    assert_close({name.removeprefix("0."): x for name, x in found.items() if name.startswith("0.")}, expected)
    assert all(x is None for name, x in found.items() if not name.startswith("0.")), "heads are left alone"


@pytest.mark.parametrize(("batch_idx", "p"), [(1, 0.005), (50, 0.25), (100, 0.5), (150, 0.5)])
def test_p_grows_linearly_and_stays(batch_idx, p):
    pipe = DiffAugment()
    loss = make_insgen(augment_pipe=pipe, final_p=0.5, final_p_iteration=100)
    loss.end_iteration(batch_idx)
    assert float(pipe.p) == pytest.approx(p)


def test_p_is_left_alone_by_default():
    pipe = DiffAugment()
    make_insgen(augment_pipe=pipe).end_iteration(5)
    assert float(pipe.p) == 1
