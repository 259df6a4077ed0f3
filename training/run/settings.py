"""All settings of a training run, each declared once: the arguments of `training.training_loop.training_loop`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

import torch

from dnnlib.click_types import MAX_SEED
from dnnlib.errors import UserError
from training.data.names import shown
from training.run.flags import Flags
from training.run.json_types import check_type

Kwargs = dict[str, Any]
"""``class_name``, the dotted name of a class, and the keyword arguments that it is constructed with."""


POSITIVE = {
    *("num_gpus", "batch_size", "batch_gpu", "G_reg_interval", "D_reg_interval", "ada_interval", "ada_kimg"),
    *("kimg_per_tick", "image_snapshot_ticks", "network_snapshot_ticks", "metrics_ticks", "time_limit_sec"),
}
"""Settings that must be greater than 0; other numbers must not be negative."""

MAX_NUMBER = 1e15
"""Largest value of settings that `LARGEST` does not list: of images it is beyond all use, but no overflow."""

LARGEST = {"random_seed": MAX_SEED, "num_gpus": 1 << 16, "batch_size": 1 << 20, "batch_gpu": 1 << 20}
"""Largest values of settings: what needs more memory or processes than there are would only fail later."""

NOT_STORED = ("run_dir", "rank", "device", "abort_fn", "progress_fn")
"""Settings of a process, which are not stored with the run."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one process of a run; those that ``train.py`` decides are stored in ``training_options.json``.

    Defaults are those of StyleGAN2-ADA's training loop, and what a run does that was stored before a setting existed;
    hence they stay when those of the flags change (`training.run.flags`), except where each session is given a value.
    """

    run_dir: str = "."
    """Run folder; it exists."""
    training_set_kwargs: Kwargs = field(default_factory=dict)
    """Dataset."""
    data_loader_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of ``torch.utils.data.DataLoader``."""
    G_kwargs: Kwargs = field(default_factory=dict)
    """Generator; channels, resolution and labels come from the dataset."""
    D_kwargs: Kwargs = field(default_factory=dict)
    """Discriminator, likewise."""
    G_opt_kwargs: Kwargs = field(default_factory=dict)
    """Optimizer of G."""
    D_opt_kwargs: Kwargs = field(default_factory=dict)
    """Optimizer of D."""
    augment_kwargs: Kwargs | None = None
    """Augmentation pipe; None disables augmentation."""
    loss_kwargs: Kwargs = field(default_factory=dict)
    """Loss."""
    metrics: list[str] = field(default_factory=list)
    """Names of the metrics to evaluate."""
    random_seed: int = 0
    """Seed of the order of images; with the rank, of everything else that is random."""
    num_gpus: int = 1
    """Number of processes."""
    rank: int = 0
    """Rank of this process."""
    batch_size: int = 4
    """Images per iteration, summed over processes."""
    batch_gpu: int = 4
    """Images per forward and backward pass of one process."""
    ema_kimg: float = 10
    """Half-life of the moving average of G, in thousands of images."""
    ema_rampup: float | None = None
    """Limit of that half-life as a fraction of the images seen so far; None for no limit."""
    G_reg_interval: int | None = 4
    """Iterations between regularization steps of G; None regularizes in every step, together with the main loss."""
    D_reg_interval: int | None = 16
    """The same for D."""
    augment_p: float = 0
    """Probability of augmentation; the initial one if it is adaptive."""
    ada_target: float | None = None
    """Target of adaptive augmentation (ADA); None keeps ``augment_p``."""
    ada_interval: int = 4
    """Iterations between two adjustments of p."""
    ada_kimg: float = 500
    """Thousands of images in which p can move by 1."""
    total_kimg: float = 25000
    """Length of training, in thousands of real images."""
    kimg_per_tick: float = 4
    """Length of a tick, in thousands of real images."""
    image_snapshot_ticks: int | None = 50
    """Ticks between sample grids; None draws none."""
    network_snapshot_ticks: int | None = 50
    """Ticks between network snapshots; None saves none."""
    metrics_ticks: int | None = None
    """Ticks between evaluations of the metrics; None for ``network_snapshot_ticks``."""
    state_interval_sec: float = Flags.state_minutes * 60
    """Minimum time between two checkpoints, which are saved at the end of a tick."""
    snapshot_formats: tuple[str, ...] = Flags.snap_format
    """'pkl', and 'safetensors' for a folder with G_ema beside it."""
    resume_pkl: str | None = None
    """Snapshot to start from (transfer learning)."""
    trust_pickle: bool = Flags.trust_pickle
    """Allow ``resume_pkl`` to execute code."""
    cudnn_benchmark: bool = True
    """Let cuDNN choose its algorithms by timing them."""
    allow_tf32: bool = False
    """Allow TensorFloat-32 in matrix products and convolutions."""
    detector_folder: str | None = None
    """Folder with the feature networks of the metrics."""
    progress: str = "plain"
    """'plain' prints lines, 'auto' also draws a progress bar on terminals, 'none' prints nothing."""
    device: torch.device | str = "cpu"
    """Device of this process."""
    abort_fn: Callable[[], bool] | None = None
    """Called after every tick; True stops the run."""
    progress_fn: Callable[[int, float], None] | None = None
    """Called after every tick with (cur_nimg, total_nimg)."""
    num_bf16_res: int = 0
    """Highest resolutions at which G and D train in bfloat16 (`training.networks.bfloat16_training`)."""
    metric_set_kwargs: Kwargs | None = None
    """Dataset that metrics compare with; None for the training set."""
    object_detector: str | None = None
    """Detector of the metrics of objects; None for one that suits the dataset (`metrics.objects.registry`)."""
    time_limit_sec: float | None = None
    """Longest time of all sessions of the run together; ticks are planned for it (`training.run.time_plan`)."""
    stop_on: str | None = None
    """'divergence' stops a run that diverges, and keeps the last checkpoint from before; None never stops early."""
    log: str | None = None
    """'wandb' sends statistics and samples to Weights & Biases, too; None writes files only."""
    extension_kwargs: list[Kwargs] = field(default_factory=list)
    """Extensions of the loss."""
    ada_max_p: float | None = 1.0
    """Upper bound of p; None for no bound."""

    @property
    def total_nimg(self) -> float:
        """Length of training in images."""
        return self.total_kimg * 1000

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and prints."""
        return self.rank == 0

    @property
    def uses_labels(self) -> bool:
        """Whether networks are conditioned on the labels of the training set, if it has any."""
        return bool(self.training_set_kwargs.get("use_labels"))

    @property
    def has_augmentation(self) -> bool:
        """Whether images are augmented, now or as soon as p has moved."""
        return self.augment_kwargs is not None and (self.augment_p > 0 or self.ada_target is not None)


def settings_signature() -> inspect.Signature:
    """Return the signature of a function that takes the fields of `TrainingSettings` as its arguments."""
    return inspect.Signature(
        [
            inspect.Parameter(
                setting.name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=setting.default_factory() if setting.default_factory is not MISSING else setting.default,
                annotation=setting.type,
            )
            for setting in fields(TrainingSettings)
        ]
    )


def check_stored_settings(kwargs: dict[str, Any], where: str) -> None:
    """Check the names, types and ranges of settings that were read from a file, which may have been edited.

    Args:
        kwargs: Arguments of the training loop.
        where: The file, for the error.

    Raises:
        UserError: A setting is unknown, or its value is invalid.
    """
    hints = _type_hints()
    for name, value in kwargs.items():
        if name not in hints:
            raise UserError(f"{where}: {name[:100]!a} is not a setting of this version")
        check_type(value, hints[name], f"{where}: {name}")
        if isinstance(value, (int, float)):
            _check_range(name, value, where)


def _check_range(name: str, value: float, where: str) -> None:
    largest = LARGEST.get(name, MAX_NUMBER)
    if (value > 0 if name in POSITIVE else value >= 0) and value <= largest:
        return
    sign = "positive" if name in POSITIVE else "non-negative"
    raise UserError(f"{where}: {name} is {shown(str(value))}, but must be a {sign} number up to {largest:.10g}")


@functools.cache
def _type_hints() -> dict[str, Any]:
    return get_type_hints(TrainingSettings)
