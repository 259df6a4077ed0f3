import pytest

from training.run.dataset_info import DatasetInfo
from training.run.description import describe_flags
from training.run.options import Flags, resolve
from training.run.registry import augmentations, configurations, extensions
from training.run.roles import check_class_names

IMAGES = DatasetInfo("images", 64, 1000, has_labels=True, label_dim=3)
METHODS = ("insgen", "projected", "projected-fastgan")


def options_of(dataset=IMAGES, **flags):
    return resolve(Flags(data="", **flags), dataset)


def test_everything_is_found():
    assert set(METHODS) <= set(configurations())
    assert set(augmentations()) == {"diffaug"}
    assert set(extensions()) == {"lecam", "apa", "loss", "san"}


@pytest.mark.parametrize("cfg", METHODS)
def test_stored_classes_are_allowed(cfg):
    kwargs = options_of(cfg=cfg, settings={"lecam": 0.1, "apa": True})
    check_class_names(kwargs, "options", is_trusted=False)
    assert [each["class_name"] for each in kwargs["extension_kwargs"]] == [
        "baselines.lecam.LeCam",
        "baselines.apa.AdaptivePseudoAugmentation",
    ]


def test_diffaug_replaces_ada():
    kwargs = options_of(aug="diffaug")
    assert kwargs["augment_kwargs"] == {
        "class_name": "baselines.diffaug.DiffAugment",
        "diffaug_policy": "color,translation,cutout",
        "cutout_ratio": 0.5,
    }
    assert kwargs["augment_p"] == 1
    assert "ada_target" not in kwargs


def test_insgen_can_let_p_grow_linearly():
    flags = {"cfg": "insgen", "batch": 20, "kimg": 2}
    kwargs = options_of(**flags, target=0.5, settings={"ada_linear": True})
    assert "ada_target" not in kwargs
    assert (kwargs["loss_kwargs"]["final_p"], kwargs["loss_kwargs"]["final_p_iteration"]) == (0.5, 100)
    assert kwargs["augment_p"] == 0.5 / 100
    assert "final_p" not in options_of(**flags)["loss_kwargs"]
    assert options_of(**flags)["ada_target"] == 0.6
    for aug in ("noaug", "diffaug"):
        with pytest.raises(ValueError, match="--ada-linear=1 needs --aug=ada"):
            options_of(**flags, aug=aug, settings={"ada_linear": True})


def test_projected_has_a_smaller_cutout():
    assert options_of(cfg="projected")["augment_kwargs"]["cutout_ratio"] == 0.2
    assert options_of(cfg="projected", settings={"cutout_ratio": 0.4})["augment_kwargs"]["cutout_ratio"] == 0.4
    assert options_of(cfg="projected", aug="ada")["augment_kwargs"]["class_name"] == "training.augment.AugmentPipe"


def test_linear_augmentation_keeps_below_its_maximum():
    kwargs = options_of(
        cfg="insgen", target=0.5, ada_max_p=0.3, explicit=frozenset({"ada_max_p"}), settings={"ada_linear": True}
    )
    assert kwargs["loss_kwargs"]["final_p"] == 0.3
    assert "ada_max_p" not in kwargs


def test_projected_is_as_published():
    kwargs = options_of(cfg="projected", gpus=8)
    assert kwargs["D_kwargs"] == {
        "class_name": "baselines.projected.discriminator.ProjectedDiscriminator",
        "is_separable": True,
    }
    assert kwargs["loss_kwargs"] == {"class_name": "baselines.projected.loss.ProjectedLoss"}
    assert (kwargs["G_kwargs"]["z_dim"], kwargs["G_kwargs"]["w_dim"]) == (64, 128)
    assert kwargs["G_kwargs"]["mapping_kwargs"] == {"num_layers": 2}
    for network in "GD":
        adam = {"class_name": "torch.optim.Adam", "betas": [0.0, 0.99], "eps": 1e-8, "lr": 0.002}
        assert kwargs[f"{network}_opt_kwargs"] == adam
        assert kwargs[f"{network}_reg_interval"] is None
    assert (kwargs["batch_size"], kwargs["ema_kimg"], kwargs["ema_rampup"]) == (64, 20, 0.05)


def test_fastgan_is_as_published():
    kwargs = options_of(cfg="projected-fastgan")
    assert kwargs["G_kwargs"] == {
        "class_name": "baselines.projected.fastgan.FastGANGenerator",
        "z_dim": 256,
        "is_lite": False,
        "ngf": 128,
        "use_noise": True,
    }
    assert kwargs["G_opt_kwargs"]["lr"] == kwargs["D_opt_kwargs"]["lr"] == 0.0002
    assert options_of(cfg="projected-fastgan", cbase=8192, settings={"is_lite": True})["G_kwargs"]["ngf"] == 32


@pytest.mark.parametrize(
    ("flags", "queues"),
    [
        ({}, (50, 50)),
        ({"mirror": True}, (100, 100)),
        ({"subset": 10}, (1, 1)),
        ({"settings": {"rqs": 7}}, (7, 7)),
        ({"settings": {"fqs": 9}}, (50, 9)),
    ],
)
def test_queues_of_insgen(flags, queues):
    kwargs = options_of(cfg="insgen", **flags)["loss_kwargs"]
    assert (kwargs["rqs"], kwargs["fqs"]) == queues


def test_the_relativistic_loss_is_regularized_always():
    kwargs = options_of(cfg="stylegan2", settings={"loss": "relativistic"})
    assert kwargs["D_reg_interval"] is None
    assert "D_reg_interval" not in options_of(cfg="stylegan2", settings={"loss": "logistic"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"cfg": "projected", "gamma": 1.0}, "--gamma has no effect with --cfg=projected"),
        ({"cfg": "projected", "freezed": 2}, "--freezed has no effect with the discriminators of Projected GAN"),
        ({"cfg": "projected", "settings": {"loss": "relativistic"}}, "--loss=relativistic replaces a logistic loss"),
        ({"cfg": "projected", "settings": {"san": True}}, "--san=1 has no meaning for heads with spectral"),
        ({"cond": True, "settings": {"san": True}}, "--san=1 is not defined for D conditioned on labels"),
        ({"cfg": "insgen", "settings": {"is_lite": True}}, "--is-lite has no effect with --cfg=insgen; it belongs to"),
        ({"settings": {"rqs": 4}}, "--rqs has no effect with --cfg=auto; it belongs to --cfg=insgen"),
        ({"settings": {"cutout_ratio": 0.1}}, "--cutout-ratio has no effect with --aug=ada; it belongs to --aug=dif"),
        ({"settings": {"apa_target": 0.1}}, "--apa-target has no effect"),
        ({"cfg": "projected-fastgan", "cond": True}, "--cond=1 has no effect on FastGAN's generator; use --cfg=proj"),
        ({"cfg": "insgen", "time": 1800, "settings": {"ada_linear": True}}, "--ada-linear=1 needs a run of known len"),
        ({"aug": "diffaug", "augpipe": "bg"}, "--augpipe has no effect with --aug=diffaug"),
        ({"aug": "diffaug", "p": 0.1}, "--p needs --aug=fixed, got --aug=diffaug"),
        ({"aug": "diffaug", "target": 0.1}, "--target needs --aug=ada, got --aug=diffaug"),
    ],
)
def test_combinations_without_meaning_are_refused(flags, message):
    with pytest.raises(ValueError, match="--") as refusal:
        options_of(**flags)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("cfg", configurations())
def test_every_configuration_has_a_small_variant(cfg):
    normal, small = options_of(cfg=cfg), options_of(cfg=cfg, small=True)
    for name in ("G_kwargs", "D_kwargs", "loss_kwargs"):
        assert small[name]["class_name"] == normal[name]["class_name"], "the method stays"
    assert "r1_gamma" in small["loss_kwargs"] or "r1_gamma" not in normal["loss_kwargs"]
    assert small["batch_size"] == small["batch_gpu"] == 16
    assert small["total_kimg"] == 200
    assert options_of(cfg=cfg, small=True, kimg=7)["total_kimg"] == 7, "flags come first"


def test_small_configurations_draw_no_noise():
    assert options_of(small=True)["G_kwargs"]["synthesis_kwargs"]["use_noise"] is False
    assert "use_noise" not in options_of(small=True, noise=True)["G_kwargs"]["synthesis_kwargs"]
    assert options_of(small=True, cfg="projected-fastgan")["G_kwargs"]["use_noise"] is False
    assert describe_flags(Flags(data="", small=True), IMAGES) == "images-auto1-small"
