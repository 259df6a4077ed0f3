"""LeCam, APA, the relativistic loss and SAN against slow computations of their definitions."""

import copy

import pytest
import torch
from torch.nn.functional import softplus

from baselines.apa import AdaptivePseudoAugmentation
from baselines.lecam import LeCam
from baselines.relativistic import RelativisticLoss
from baselines.san import SlicingAdversarial
from msconD.discriminator import MsConDDiscriminator
from msconD.loss import MsConDLoss
from tests.unit.baselines.toy import (
    CAPACITY,
    SIZE,
    assert_close,
    expected_gradients,
    gradients,
    inputs,
    make_loss,
)
from torch_utils import training_stats
from training.phases import make_phases
from training.round import Round


def generate(loss, arguments):
    with torch.no_grad():
        return loss.run_G(arguments["gen_z"], arguments["gen_c"], sync=False)[0]


def test_lecam_adds_its_definition():
    loss = make_loss(extensions=[lambda loss: LeCam(loss, 4, lecam=0.3)])
    (lecam,) = loss.extensions
    means = {"real": 0.2, "fake": -0.1}
    for step in range(1, 4):
        arguments = inputs()
        fake_img = generate(loss, arguments)

        def definition(arguments=arguments, fake_img=fake_img):
            fake, real = loss.D(fake_img, None), loss.D(arguments["real_img"], None)
            logistic = (softplus(fake) + softplus(-real)).mean()
            a_real, a_fake = means["real"], means["fake"]
            lecam = ((real - a_fake).clamp(min=0) ** 2).mean() + ((a_real - fake).clamp(min=0) ** 2).mean()
            return logistic + 0.3 * lecam

        lecam.load_state_dict({f"{kind}_h1": torch.tensor(mean) for kind, mean in means.items()})
        expected = expected_gradients(loss.D, definition)
        assert_close(gradients(loss, "Dmain", loss.D, arguments), expected)
        lecam.end_iteration(step)
        for kind, img in (("real", arguments["real_img"]), ("fake", fake_img)):
            means[kind] = 0.99 * means[kind] + 0.01 * float(loss.D(img, None).mean())
            assert float(lecam.state_dict()[f"{kind}_h1"]) == pytest.approx(means[kind], abs=1e-6)


def test_lecam_leaves_other_phases_alone():
    arguments = inputs()
    plain = make_loss()
    extended = copy.deepcopy(plain)
    extended.extensions = [LeCam(extended, 4, lecam=1)]
    for phase, name in (("Gmain", "G_synthesis"), ("Dreg", "D")):
        found = [gradients(loss, phase, getattr(loss, name), arguments) for loss in (plain, extended)]
        assert_close(found[1], found[0], tolerance=0)


def test_apa_replaces_real_images_by_the_last_generated_ones():
    loss = make_loss(extensions=[lambda loss: AdaptivePseudoAugmentation(loss, 4, True, 0.6, 500)])
    (apa,) = loss.extensions
    arguments = inputs(num=400)
    assert apa.replace_real(arguments["real_img"]) is arguments["real_img"], "nothing was generated so far"
    fake_img = generate(loss, arguments)
    gradients(loss, "Dmain", loss.D, arguments)
    for p, low, high in ((0, 0, 0), (0.3, 80, 160), (1, 400, 400)):
        apa.p.fill_(p)
        replaced = apa.replace_real(arguments["real_img"])
        is_fake = (replaced == fake_img).flatten(1).all(dim=1)
        is_real = (replaced == arguments["real_img"]).flatten(1).all(dim=1)
        assert bool((is_fake ^ is_real).all())
        assert low <= int(is_fake.sum()) <= high


def test_apa_follows_the_signs_of_real_logits():
    apa = AdaptivePseudoAugmentation(make_loss(), batch_size=100, apa=True, apa_target=0.6, apa_kimg=1)
    for sign, expected in ((1, [0.4, 0.8, 1.0]), (-1, [0.6, 0.2, 0.0])):
        for value in expected:
            training_stats.report("Loss/signs/real", torch.full([10], float(sign)))
            apa.end_iteration(4)
            assert float(apa.p) == pytest.approx(value)


def test_apa_reaches_d_only():
    loss = make_loss(extensions=[lambda loss: AdaptivePseudoAugmentation(loss, 4, True, 0.6, 500)])
    seen = []
    loss.extensions[0].replace_real = lambda img: seen.append(img) or img
    arguments = inputs()
    rounds = [Round(*(arguments[name] for name in ("real_img", "real_c", "gen_z", "gen_c")))]
    opt_kwargs = {"class_name": "torch.optim.Adam", "lr": 0.01, "betas": [0.0, 0.99]}
    for prefix, network in (("G", loss.G_synthesis), ("D", loss.D)):
        for phase in make_phases(prefix, network, opt_kwargs, None, loss.extensions):
            phase.run(loss, rounds)
    assert len(seen) == 1


def test_relativistic_discriminator():
    loss = make_loss(r1_gamma=3, extensions=[lambda loss: RelativisticLoss(loss, 4, "relativistic")])
    arguments = inputs()
    fake_img = generate(loss, arguments)

    def definition():
        imgs = [img.clone().requires_grad_(True) for img in (arguments["real_img"], fake_img)]
        real, fake = (loss.D(img, None) for img in imgs)
        total = softplus(-(real - fake)).mean()
        for logits, img in zip((real, fake), imgs, strict=True):
            (grad,) = torch.autograd.grad(logits.sum(), img, create_graph=True)
            total = total + 3 / 2 * grad.square().sum(dim=[1, 2, 3]).mean()
        return total

    assert_close(gradients(loss, "Dboth", loss.D, arguments), expected_gradients(loss.D, definition), tolerance=1e-5)


def test_relativistic_penalties_have_no_phase_of_their_own():
    loss = make_loss(extensions=[lambda loss: RelativisticLoss(loss, 4, "relativistic")])
    with pytest.raises(ValueError, match="in every iteration; set D_reg_interval to None"):
        gradients(loss, "Dreg", loss.D, inputs())


def test_relativistic_generator():
    loss = make_loss(extensions=[lambda loss: RelativisticLoss(loss, 4, "relativistic")])
    arguments = inputs()

    def definition():
        img, _ws = loss.run_G(arguments["gen_z"], arguments["gen_c"], sync=False)
        return softplus(-(loss.D(img, None) - loss.D(arguments["real_img"], None))).mean()

    expected = expected_gradients(loss.G_synthesis, definition)
    assert_close(gradients(loss, "Gmain", loss.G_synthesis, arguments), expected)


def test_relativistic_pairs_have_the_same_label(monkeypatch):
    loss = make_loss(extensions=[lambda loss: RelativisticLoss(loss, 4, "relativistic")])
    seen = []
    monkeypatch.setattr(loss, "run_D", lambda img, c, sync, run_D=loss.run_D: seen.append(c) or run_D(img, c, sync))
    arguments = {**inputs(), "real_c": torch.eye(4), "gen_c": torch.eye(4).flip(0)}
    gradients(loss, "Gmain", loss.G_synthesis, arguments)
    gradients(loss, "Dboth", loss.D, arguments)
    assert len(seen) == 4
    assert all(c is arguments["real_c"] for c in seen)


def test_what_relativistic_logits_say_does_not_depend_on_a_constant(monkeypatch):
    """Which the loss leaves undetermined, but the signs that control augmentation would see."""
    loss = make_loss(extensions=[lambda loss: RelativisticLoss(loss, 4, "relativistic")])
    arguments, said = inputs(), []
    monkeypatch.setattr(loss, "report_heads", lambda kind, logits: said.append((kind, logits[1])))
    for shift in (0, 3):
        with torch.no_grad():
            loss.D.b4.out.bias.add_(shift)
        torch.manual_seed(0)
        gradients(loss, "Dmain", loss.D, arguments)
    before, after = dict(said[:2]), dict(said[2:])
    assert before.keys() == {"real", "fake"}
    torch.testing.assert_close(before["real"].mean(), -before["fake"].mean())
    for kind, logits in before.items():
        torch.testing.assert_close(after[kind], logits, atol=1e-5, rtol=0)


def test_san_separates_direction_and_length():
    """The definition, on a copy of D whose last layer has a length s and a direction d of its own."""
    loss = make_loss(extensions=[lambda loss: SlicingAdversarial(loss, 4, san=True)])
    arguments = inputs()
    fake_img = generate(loss, arguments)
    D = loss.D
    weight = D.b4.out.weight.detach().clone()
    s = weight.norm().clone().requires_grad_(True)
    d = (weight / weight.norm()).clone().requires_grad_(True)

    def features(img):
        kept = []
        with D.b4.out.register_forward_pre_hook(lambda _, args: kept.append(args[0])):
            D(img, None)
        return kept[0] * D.b4.out.weight_gain

    D.requires_grad_(True)
    h_real, h_fake = features(arguments["real_img"]), features(fake_img)
    bias = D.b4.out.bias
    logits = [h @ (d.detach() * s).t() + bias for h in (h_real, h_fake)]
    total = (softplus(-logits[0]) + softplus(logits[1])).mean()
    scores = [(h * s).detach() @ d.t() for h in (h_real, h_fake)]
    total = total - scores[0].mean() + scores[1].mean()
    others = [(name, p) for name, p in D.named_parameters() if name != "b4.out.weight"]
    found = torch.autograd.grad(total, [s, d, *(p for _, p in others)])
    D.requires_grad_(False)
    direction = d.detach()
    radial, tangential = found[0] * direction, found[1] - (found[1] * direction).sum() * direction
    expected = dict(zip((name for name, _ in others), found[2:], strict=True))
    expected["b4.out.weight"] = radial + tangential / s.detach()

    with loss.extensions[0].during("Dmain"):
        computed = gradients(loss, "Dmain", D, arguments)
    assert_close(computed, expected, tolerance=1e-5)


def test_san_leaves_no_trace():
    loss = make_loss(extensions=[lambda loss: SlicingAdversarial(loss, 4, san=True)])
    img = torch.randn([2, 3, 8, 8])
    plain = loss.D(img, None)
    with loss.extensions[0].during("Dmain"):
        assert torch.allclose(loss.D(img, None), plain, atol=1e-6), "the same values"
    assert "forward" not in vars(loss.D.b4.out)
    with loss.extensions[0].during("Gmain"):
        assert "forward" not in vars(loss.D.b4.out), "G is trained as ever"


def test_san_knows_the_heads_of_mscond():
    D = MsConDDiscriminator(**SIZE, **CAPACITY, scales=(1, 4), proj_dim=4)
    loss = make_loss(MsConDLoss, D=D, extensions=[lambda loss: SlicingAdversarial(loss, 4, san=True)], con_weight=0)
    assert set(loss.extensions[0].layers) == {1, 4}


def test_san_refuses_other_discriminators():
    with pytest.raises(ValueError, match="does not know the last layers of Linear"):
        SlicingAdversarial(make_loss(D=torch.nn.Linear(2, 2)), 4, san=True)
