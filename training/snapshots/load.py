"""Opening snapshots: our own, those of StyleGAN2-ADA (PyTorch) and those of the TensorFlow era."""

from __future__ import annotations

import pickle
from typing import IO, Any

import torch

from dnnlib.util import EasyDict, UserError
from torch_utils import safe_pickle
from training.run.registry import configurations
from training.snapshots.build import build_network, check_settings
from training.snapshots.tensorflow import import_tf_networks

TAKEN_FOR_SNAPSHOTS = {
    b"PK": "a zip file: a dataset, or weights as torch.save writes them",
    b"<": "a web page, perhaps what a failed download left",
}
"""Other files by what they begin with."""

TRUST_HINT = "If you trust its author, --trust-pickle (API: trusted=True) opens it by executing code from the file"


def known_classes() -> dict[str, dict[str, str]]:
    """Return, for each network of a snapshot, the classes it may name and the dotted names of ours.

    The discriminators are those of all values of ``train.py --cfg``, installed methods included.
    """
    discriminators = [configuration.discriminator for configuration in configurations().values()]
    generator = {"Generator": "training.networks.Generator"}
    return {
        "G": generator,
        "D": {name.rpartition(".")[2]: name for name in [*discriminators, "training.networks.Discriminator"]},
        "G_ema": generator,
        "augment_pipe": {"AugmentPipe": "training.augment.AugmentPipe"},
    }


def load_network_pkl(f: IO[bytes], force_fp16: bool = False, trusted: bool = False) -> dict[str, Any]:
    """Read a snapshot; nothing in it is executed unless it is ``trusted``.

    Args:
        f: Snapshot of this project or of StyleGAN2-ADA (PyTorch), or pickle of TensorFlow's StyleGAN2(-ADA).
        force_fp16: Rebuild the networks for half precision at the four highest resolutions, clamped to +-256.
        trusted: Unpickle in the ordinary way, which executes the source in the file: for classes of its author's own.

    Returns:
        'G', 'D', 'G_ema' and 'augment_pipe', modules on the CPU in evaluation mode without gradients, and
        'training_set_kwargs', plain data: whoever constructs a dataset of them looks at their ``class_name`` first. The
        last two are None where the file has none.

    Raises:
        UserError: The file is damaged, or needs more than the known classes and is not trusted.
    """
    name = getattr(f, "name", "snapshot")
    try:
        _refuse_other_files(f)
        data = _unpickle_trusted(f) if trusted else _load_safely(f)
    except safe_pickle.RefusedPickleError as error:
        raise UserError(f"{name}: {error}. {TRUST_HINT}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    if force_fp16:
        data.update({key: _rebuild_for_fp16(key, data[key]) for key in ("G", "D", "G_ema")})
    return data


def _refuse_other_files(f: IO[bytes]) -> None:
    if not f.seekable():
        return
    position = f.tell()
    start = f.read(2)
    f.seek(position)
    for beginning, description in TAKEN_FOR_SNAPSHOTS.items():
        if start.startswith(beginning):
            raise UserError(f"no snapshot but {description}")


def _load_safely(f: IO[bytes]) -> dict[str, Any]:
    data = safe_pickle.load(f)
    if isinstance(data, tuple) and [type(network) for network in data] == [safe_pickle.TFNetwork] * 3:
        return {**import_tf_networks(data), "training_set_kwargs": None, "augment_pipe": None}
    if not isinstance(data, dict):
        raise UserError(f"holds a {type(data).__name__}, not a snapshot of networks")
    snapshot: dict[str, Any] = {"training_set_kwargs": _plain_settings(data.get("training_set_kwargs"))}
    for key, classes in known_classes().items():
        is_absent = data.get(key) is None and key == "augment_pipe"
        snapshot[key] = None if is_absent else build_network(data.get(key), classes)
    return snapshot


def _plain_settings(settings: Any) -> EasyDict | None:
    if settings is None:
        return None
    if not isinstance(settings, dict):
        raise UserError("its training_set_kwargs are not a dict")
    check_settings(settings, "training_set_kwargs")
    return EasyDict(settings)


def _unpickle_trusted(f: IO[bytes]) -> dict[str, Any]:
    try:
        data = pickle.load(f)
    except (ImportError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"cannot be unpickled here ({error}); try without --trust-pickle") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(key), torch.nn.Module) for key in ("G", "D", "G_ema")):
        raise UserError("holds no snapshot with G, D and G_ema")
    return {key: data.get(key) for key in ("training_set_kwargs", *known_classes())}


def _rebuild_for_fp16(key: str, network: Any) -> torch.nn.Module:
    kwargs = network.init_kwargs
    if key == "D":
        kwargs.update(num_fp16_res=4, conv_clamp=256)
    else:
        kwargs["synthesis_kwargs"] = {**kwargs.get("synthesis_kwargs", {}), "num_fp16_res": 4, "conv_clamp": 256}
    rebuilt = type(network)(*network.init_args, **kwargs)
    rebuilt.load_state_dict(network.state_dict())
    return rebuilt.eval().requires_grad_(False)
