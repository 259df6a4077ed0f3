"""Command lines of train.py become the options that an independent reading of the flags' tables expects."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import train
from training.run import launch
from training.run.options import AUGPIPES, DatasetInfo, Flags, resolve

NUM_IMAGES = 1000
RESOLUTIONS = (32, 64, 256, 512, 1024)
Given = dict[str, str]

# --- what the tables say ---

COLUMNS = ("ref_gpus", "kimg", "batch", "mbstd", "fmaps", "lr", "gamma", "ema_kimg", "ramp", "map")
STYLEGAN2 = (8, 25000, 32, 4, 1, 0.002, 10, 10, None, 8)
ROWS = {
    "stylegan2": STYLEGAN2,
    "paper256": (8, 25000, 64, 8, 0.5, 0.0025, 1, 20, None, 8),
    "paper512": (8, 25000, 64, 8, 1, 0.0025, 0.5, 20, None, 8),
    "paper1024": (8, 25000, 32, 4, 1, 0.002, 2, 10, None, 8),
    "cifar": (2, 100000, 64, 32, 1, 0.0025, 0.01, 500, 0.05, 2),
    "msconD": STYLEGAN2,
    "multiscale": STYLEGAN2,
}
METHODS = ("msconD", "multiscale")
CFGS = ("auto", *ROWS)

LETTERS = {
    "b": ["xflip", "rotate90", "xint"],
    "g": ["scale", "rotate", "aniso", "xfrac"],
    "c": ["brightness", "contrast", "lumaflip", "hue", "saturation"],
    "f": ["imgfilter"],
    "n": ["noise"],
    "C": ["cutout"],
}
PIPES = {"blit": "b", "geom": "g", "color": "c", "filter": "f", "noise": "n", "cutout": "C"} | {
    name: name[:5] + "C" * (len(name) == 6) for name in ("bg", "bgc", "bgcf", "bgcfn", "bgcfnc")
}
CDN = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets/"
NETWORKS = {
    "ffhq256": "ffhq-res256-mirror-paper256-noaug.pkl",
    "ffhq512": "ffhq-res512-mirror-stylegan2-noaug.pkl",
    "ffhq1024": "ffhq-res1024-mirror-stylegan2-noaug.pkl",
    "celebahq256": "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
    "lsundog256": "lsundog-res256-paper256-kimg100000-noaug.pkl",
}
JUDGE = {"scales": [1, 8, 16], "shared": "resblk", "epilogue": "stylegan2", "cond_local": True}
PROJECTION = {"proj_dim": 256, "proj_hidden": None, "proj1_layers": 2}
ADVERSARIAL = {"adv_weights": None, "r1_mode": "mean", "ada_scale": "global"}
CONTRASTIVE = {
    "con_weight": 1,
    "con_fake_weight": 0,
    "con_g_weight": 0,
    "con_ramp_kimg": 0,
    "con_interval": 1,
    "con_scale_weights": None,
    "con_geom": "crop",
    "con_crop": [0.2, 1],
    "con_color_p": 0.8,
    "con_temp": 0.2,
    "con_pos_dist": 0.7,
    "con_neg_dist": 0.7,
    "con_multi_pos": "sum",
    "con_neg": "batch",
    "con_max_anchors": 1024,
    "con_gather": "h1",
}
METHOD_FLAGS: dict[str, tuple[str, str, str, Any]] = {  # flag: text, class that takes it, key, value
    "scales": ("1-8", "D_kwargs", "scales", [1, 8]),
    "r1-mode": ("rademacher", "loss_kwargs", "r1_mode", "rademacher"),
    "con-temp": ("0.5", "loss_kwargs", "con_temp", 0.5),
    "con-crop": ("0.08,1", "loss_kwargs", "con_crop", [0.08, 1]),
    "proj-hidden": ("256", "D_kwargs", "proj_hidden", 256),
}


class Refused(Exception):
    pass


def demand(condition: bool) -> None:
    if not condition:
        raise Refused


def oracle(given: Given, resolution: int) -> tuple[str, dict[str, Any]]:
    """Description and options, read off the tables; raises Refused where flags contradict each other."""
    cfg, gpus = given.get("cfg", "auto"), int(given.get("gpus", 1))
    row = auto_row(resolution, gpus) if cfg == "auto" else dict(zip(COLUMNS, ROWS[cfg], strict=True))
    options = {
        "num_gpus": gpus,
        "image_snapshot_ticks": int(given.get("snap", 50)),
        "network_snapshot_ticks": int(given.get("snap", 50)),
        "metrics": {"none": []}.get(given.get("metrics", ""), given.get("metrics", "fid50k_full").split(",")),
        "metrics_ticks": int(given["metrics-ticks"]) if "metrics-ticks" in given else None,
        "random_seed": int(given.get("seed", 0)),
        "kimg_per_tick": float(given.get("tick", 4)),
        "cudnn_benchmark": not is_true(given, "nobench"),
        "allow_tf32": is_true(given, "allow-tf32"),
        "total_kimg": int(given.get("kimg", row["kimg"])),
        "ema_kimg": row["ema_kimg"],
        "ema_rampup": None if "resume" in given else row["ramp"],
        **batch_options(given, cfg, row, gpus),
        **data_options(given, resolution),
        **network_options(given, cfg, row),
        **augment_options(given),
    }
    if "resume" in given:
        name = given["resume"]
        options |= {"resume_pkl": CDN + NETWORKS[name] if name in NETWORKS else name, "ada_kimg": 100}
    return describe(given, cfg, gpus), options


def auto_row(resolution: int, gpus: int) -> dict[str, Any]:
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    values = (
        gpus,
        25000,
        batch,
        min(batch // gpus, 4),
        1 if resolution >= 512 else 0.5,
        0.002 if resolution >= 1024 else 0.0025,
        0.0002 * resolution**2 / batch,
        batch * 10 / 32,
        0.05,
        2,
    )
    return dict(zip(COLUMNS, values, strict=True))


def is_true(given: Given, name: str) -> bool:
    return given.get(name, "false") in ("true", "1")


def batch_options(given: Given, cfg: str, row: dict[str, Any], gpus: int) -> dict[str, int]:
    batch = int(given.get("batch", row["batch"]))
    demand(batch % gpus == 0)
    if "batch-gpu" in given:
        batch_gpu = int(given["batch-gpu"])
    elif "batch" in given:
        batch_gpu = batch // gpus
    elif cfg in METHODS:
        batch_gpu = min(batch // gpus, 16)
    else:
        batch_gpu = min(batch // row["ref_gpus"], batch // gpus)
    demand((batch // gpus) % batch_gpu == 0)
    demand(batch_gpu % min(int(given.get("mbstd-group", row["mbstd"])), batch_gpu) == 0)
    return {"batch_size": batch, "batch_gpu": batch_gpu}


def data_options(given: Given, resolution: int) -> dict[str, Any]:
    subset = int(given.get("subset", NUM_IMAGES))
    training_set = {
        "class_name": "training.dataset.ImageFolderDataset",
        "path": "cars.zip",
        "use_labels": is_true(given, "cond"),
        "max_size": subset,
        "xflip": is_true(given, "mirror"),
        "resolution": resolution,
    }
    if subset < NUM_IMAGES:
        training_set["random_seed"] = int(given.get("seed", 0))
    workers = int(given.get("workers", 3))
    loader = {"pin_memory": True, "num_workers": workers} | ({"prefetch_factor": 2} if workers else {})
    return {"training_set_kwargs": training_set, "data_loader_kwargs": loader}


def network_options(given: Given, cfg: str, row: dict[str, Any]) -> dict[str, Any]:
    fp32 = is_true(given, "fp32")
    size = {
        "channel_base": int(given.get("cbase", row["fmaps"] * 32768)),
        "channel_max": int(given.get("cmax", 512)),
        "num_fp16_res": 0 if fp32 else 4,
        "conv_clamp": None if fp32 else 256,
    }
    nhwc = {"fp16_channels_last": True} if is_true(given, "nhwc") else {}
    G = {
        "class_name": "training.networks.Generator",
        "z_dim": 512,
        "w_dim": 512,
        "mapping_kwargs": {"num_layers": int(given.get("map-depth", row["map"]))},
        "synthesis_kwargs": size | nhwc,
    }
    freeze = {"freeze_layers": int(given["freezed"])} if "freezed" in given else {}
    D = {
        "class_name": "training.networks.Discriminator",
        "block_kwargs": nhwc | freeze,
        "mapping_kwargs": {},
        "epilogue_kwargs": {"mbstd_group_size": int(given.get("mbstd-group", row["mbstd"]))},
        **size,
    }
    loss = {"class_name": "training.loss.StyleGAN2Loss", "r1_gamma": float(given.get("gamma", row["gamma"]))}
    if cfg == "cifar":
        D["architecture"] = "orig"
        loss |= {"pl_weight": 0, "style_mixing_prob": 0}
    if cfg in METHODS:
        full = cfg == "msconD"
        D |= (
            {"class_name": "msconD.discriminator.MsConDDiscriminator"}
            | JUDGE
            | (PROJECTION if full else {"proj_dim": 0})
        )
        loss |= {"class_name": "msconD.loss.MsConDLoss"} | ADVERSARIAL | (CONTRASTIVE if full else {"con_weight": 0})
    for flag in METHOD_FLAGS.keys() & given.keys():
        _text, target, key, value = METHOD_FLAGS[flag]
        demand(cfg == "msconD" or (cfg == "multiscale" and flag in ("scales", "r1-mode")))
        {"D_kwargs": D, "loss_kwargs": loss}[target][key] = value
    adam = {"class_name": "torch.optim.Adam", "betas": [0, 0.99], "eps": 1e-8}
    lr = {name: float(given.get(name, row["lr"])) for name in ("glr", "dlr")}
    optimizers = {"G_opt_kwargs": adam | {"lr": lr["glr"]}, "D_opt_kwargs": adam | {"lr": lr["dlr"]}}
    return {"G_kwargs": G, "D_kwargs": D, "loss_kwargs": loss, **optimizers}


def augment_options(given: Given) -> dict[str, Any]:
    aug = given.get("aug", "ada")
    demand(("p" in given) == (aug == "fixed"))
    demand("target" not in given or aug == "ada")
    demand("augpipe" not in given or aug != "noaug")
    if aug == "noaug":
        return {}
    transforms = [name for letter in PIPES[given.get("augpipe", "bgc")] for name in LETTERS[letter]]
    options: dict[str, Any] = {
        "augment_kwargs": {"class_name": "training.augment.AugmentPipe"} | dict.fromkeys(transforms, 1)
    }
    if aug == "fixed":
        return options | {"augment_p": float(given["p"])}
    return options | {"ada_target": float(given.get("target", 0.6)), "ada_max_p": float(given.get("ada-max-p", 1))}


def describe(given: Given, cfg: str, gpus: int) -> str:
    text = "cars" + "-cond" * is_true(given, "cond")
    text += f"-subset{given['subset']}" if "subset" in given else ""
    text += "-mirror" * is_true(given, "mirror") + f"-{cfg}" + str(gpus) * (cfg == "auto")
    text += "".join(f"-{name}{given[name]}" for name in ("gamma", "kimg", "batch") if name in given)
    text += f"-{given['aug']}" if given.get("aug", "ada") != "ada" else ""
    text += "".join(f"-{name}{given[name]}" for name in ("p", "target") if name in given)
    text += f"-{given['augpipe']}" if "augpipe" in given else ""
    text += f"-resume{given['resume'] if given['resume'] in NETWORKS else 'custom'}" if "resume" in given else ""
    text += f"-freezed{given['freezed']}" if "freezed" in given else ""
    return text + (f"-{given['desc']}" if "desc" in given else "")


# --- command lines ---

CHOICES: dict[str, list[str]] = {
    "snap": ["10"],
    "metrics": ["none", "kid50k_full", "fid50k_full,pr50k3_full"],
    "metrics-ticks": ["5"],
    "seed": ["7"],
    "cond": ["true", "0"],
    "subset": ["100", "1000"],
    "mirror": ["1", "false"],
    "gamma": ["0", "5.5"],
    "kimg": ["1000"],
    "batch": ["8", "16", "96"],
    "batch-gpu": ["1", "2", "8"],
    "cbase": ["4096"],
    "cmax": ["128"],
    "glr": ["0.001"],
    "dlr": ["0.004"],
    "map-depth": ["5"],
    "mbstd-group": ["2"],
    "tick": ["0.5"],
    "aug": ["noaug", "ada"],
    "target": ["0.7"],
    "augpipe": list(PIPES),
    "ada-max-p": ["0.8", "inf"],
    "resume": [*NETWORKS, "some/where.pkl"],
    "freezed": ["0", "10"],
    "fp32": ["true"],
    "nhwc": ["true"],
    "nobench": ["true"],
    "allow-tf32": ["1"],
    "workers": ["0", "6"],
    "desc": ["mine"],
    **{flag: [text] for flag, (text, *_) in METHOD_FLAGS.items()},
}


def command_lines() -> list[tuple[int, Given]]:
    """Resolutions and flags: every configuration on every size, every flag alone, and random sets of flags."""
    lines = [
        (resolution, {"cfg": cfg, "gpus": gpus})
        for cfg in CFGS
        for resolution in RESOLUTIONS
        for gpus in ("1", "2", "3", "8", "16")
    ]
    lines += [(256, {"cfg": cfg, flag: text}) for cfg in CFGS for flag, texts in CHOICES.items() for text in texts]
    lines += [(256, {"aug": "fixed", "p": "0.25"}), (256, {"aug": "fixed", "p": "0", "augpipe": "geom"}), (256, {})]
    random = np.random.RandomState(0)
    for _ in range(400):
        given = {"cfg": str(random.choice(CFGS)), "gpus": str(random.choice([1, 2, 4]))}
        for flag, texts in CHOICES.items():
            is_common = flag not in METHOD_FLAGS or given["cfg"] in METHODS
            if is_common and random.rand() < 0.15:
                given[flag] = str(random.choice(texts))
        lines.append((int(random.choice(RESOLUTIONS)), given))
    return lines


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From flags to what train.py hands over."""
    requests: list[launch.RunRequest] = []
    monkeypatch.setattr(launch, "train_run", lambda request: requests.append(request) or True)

    def parse(given: Given) -> Flags:
        arguments = ["--outdir=runs", "--data=cars.zip", *(f"--{name}={text}" for name, text in given.items())]
        train.main.main(arguments, standalone_mode=False)
        return requests[-1].flags

    return parse


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists by path; empty ones are leaves."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    leaves: dict[str, Any] = {}
    for key, each in items:
        leaves |= flatten(each, f"{name}.{key}")
    return leaves or {name: value}


def dataset(resolution: int, has_labels: bool = True) -> DatasetInfo:
    return DatasetInfo(name="cars", resolution=resolution, num_images=NUM_IMAGES, has_labels=has_labels)


def test_command_lines_resolve_as_the_tables_say(parse: Any) -> None:
    num_resolved = num_refused = 0
    for resolution, given in command_lines():
        flags = parse(given)
        try:
            description, expected = oracle(given, resolution)
        except Refused:
            with pytest.raises(ValueError, match=r"^[^\n]*--[^\n]*$"):
                resolve(flags, dataset(resolution))
            num_refused += 1
            continue
        found_description, found = resolve(flags, dataset(resolution))
        assert found_description == description
        ours, theirs = flatten(found), flatten(expected)
        assert ours.keys() == theirs.keys(), given
        for name, value in theirs.items():
            is_float = isinstance(value, float) or isinstance(ours[name], float)
            assert ours[name] == (pytest.approx(value, rel=1e-12) if is_float else value), (given, name)
        assert json.loads(json.dumps(found)) == found, given
        num_resolved += 1
    assert num_resolved >= 500
    assert num_refused >= 50


def test_noresume_is_no_resume(parse: Any) -> None:
    assert resolve(parse({"resume": "noresume"}), dataset(256)) == resolve(parse({}), dataset(256))


def test_every_augpipe_is_in_the_table() -> None:
    assert set(AUGPIPES) == set(PIPES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": "30", "gpus": "4"}, "--batch=30 must be a multiple of --gpus=4"),
        ({"batch": "32", "batch-gpu": "5"}, "--batch-gpu=5 must divide the 32 images .* of 1 processes .* --batch=32"),
        ({"batch": "6"}, "6 images per pass must be a multiple of .* 4; change --batch, --batch-gpu or --mbstd-group"),
        ({"cond": "1"}, "--cond=1 needs labels, but cars.zip has no dataset.json with labels; use --cond=0"),
        ({"subset": "1001"}, "--subset must be 1 to 1000, the images in cars.zip, got 1001"),
        ({"p": "0.5"}, "--p needs --aug=fixed, got --aug=ada"),
        ({"aug": "fixed"}, "--aug=fixed needs --p, the probability of augmentation"),
        ({"aug": "noaug", "target": "0.5"}, "--target needs --aug=ada, got --aug=noaug"),
        ({"aug": "noaug", "augpipe": "bgc"}, "--augpipe has no effect with --aug=noaug"),
        ({"con-temp": "0.5"}, "--con-temp has no effect with --cfg=auto; it belongs to msconD.*"),
        ({"cfg": "multiscale", "con-temp": "0.5"}, "--con-temp has no effect with --cfg=multiscale; .* msconD.*"),
        ({"cfg": "paper256", "scales": "1,8"}, "--scales has no effect with --cfg=paper256; .* msconD, .*multiscale"),
    ],
)
def test_contradictions_are_one_line_that_names_the_flag(parse: Any, given: Given, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        resolve(parse(given), dataset(256, has_labels=False))


def test_an_unknown_cfg_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^--cfg must be one of auto, stylegan2, .*msconD.*, got 'stylegan9'$"):
        resolve(Flags(data="cars.zip", cfg="stylegan9"), dataset(256))
