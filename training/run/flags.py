"""The flags of ``train.py``, each declared once, as a field of `Flags`: name, default, type and help.

They are in the order of ``train.py --help``, which comes without torch; methods add theirs (`training.run.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import click

from dnnlib.click_types import MAX_SEED
from training.run.augpipes import AUGPIPES, DEFAULT_AUGPIPE
from training.run.flag_types import Duration, Metrics, SnapshotFormats
from training.run.registry import augmentations, configurations

OWN_AUGMENTATIONS = ("noaug", "ada", "fixed")
"""Values of ``--aug`` that belong to no method."""

ADA_TARGET = 0.6
"""Target of ADA unless ``--target`` says otherwise (arXiv 2006.06676)."""

PRECISIONS = ("fp16", "bf16", "fp32")
"""Values of ``--precision``; the first is the default."""

STRETCH = "stretch"
"""The value of ``--transform`` for neither cropping nor bands."""

COUNT = click.IntRange(min=1)
POSITIVE = click.FloatRange(min=0, min_open=True)
NOT_NEGATIVE = click.FloatRange(min=0)
FRACTION = click.FloatRange(0, 1)
OF_CFG = "set by --cfg"


def _flag(
    default: Any,
    type: click.ParamType | Callable[[], Iterable[str]],
    help: str,
    *,
    shown: str | None = None,
    names: tuple[str, ...] = (),
    is_session: bool = False,
    **option: Any,
) -> Any:
    """Declare a flag.

    Args:
        default: Its value if it is not given; None if something else then decides.
        type: Type of its value, or a function that returns the values to choose from, which methods may add to.
        help: What it means.
        shown: Says in the help what happens by default, where the default does not.
        names: The flag as it is written; without it, that follows from the name of the field.
        is_session: Whether it concerns one session of a run, and is given anew with each ``--continue``.
        option: Further arguments of `click.Option`.
    """
    metadata = {"type": type, "help": help, "shown": shown, "names": names, "is_session": is_session, "option": option}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the user asks of ``train.py``; None means not given."""

    outdir: Path | None = _flag(  # noqa: RUF009 -- it calls dataclasses.field
        None, click.Path(file_okay=False, path_type=Path), "Folder for the runs.", is_session=True
    )
    data: str | None = _flag(
        None,
        click.Path(),
        "Training images: a folder or zip made by dataset_tool.py, or with --size any photographs.",
    )
    size: int | None = _flag(None, COUNT, "Prepare the images of --data first, at this many pixels a side.")
    transform: str = _flag(
        "center-crop",
        click.Choice(["center-crop", "pad", STRETCH]),
        "With --size: crop to the middle square, add black bands, or stretch.",
    )
    continue_run: str | None = _flag(
        None,
        click.STRING,
        "Continue a run (its folder, or the latest in --outdir).",
        names=("--continue",),
        metavar="RUN|latest",
        is_session=True,
    )
    gpus: int = _flag(1, COUNT, "Number of processes.")
    device: str = _flag(
        "auto",
        click.Choice(["auto", "cuda", "cpu", "mps"]),
        "Device to train on; auto is cuda if available, else cpu.",
        is_session=True,
    )
    snap: int = _flag(50, COUNT, "Ticks between snapshots and samples.")
    tick: float = _flag(4.0, POSITIVE, "Length of a tick in thousands of images.")
    metrics: tuple[str, ...] = _flag(("fid50k_full",), Metrics(), "Comma-separated metrics, or none.")
    snap_format: tuple[str, ...] = _flag(
        ("pkl",), SnapshotFormats(), "Comma-separated snapshot formats: pkl, safetensors.", is_session=True
    )
    metrics_ticks: int | None = _flag(None, COUNT, "Ticks between metrics.", shown="value of --snap")
    detectors: str | None = _flag(
        None,
        click.Path(exists=True, file_okay=False),
        "Folder with the metrics' feature networks.",
        is_session=True,
    )
    metricdata: str | None = _flag(None, click.Path(), "Images that metrics compare with.", shown="those of --data")
    object_detector: str | None = _flag(
        None,
        click.STRING,
        "Detector of the object metrics; see docs/metrics.md.",
        shown="scenes or nanodet, by the images",
        metavar="NAME",
    )
    trust_detectors: bool = _flag(
        False,
        click.BOOL,
        "Allow feature networks of unknown origin, which can execute code.",
        is_flag=True,
        is_session=True,
    )
    state_minutes: float = _flag(10, NOT_NEGATIVE, "Minimum minutes between checkpoints.", is_session=True)
    seed: int = _flag(0, click.IntRange(0, MAX_SEED), "Random seed.")
    dry_run: bool = _flag(
        False,
        click.BOOL,
        "Check everything, print the options and exit.",
        names=("-n", "--dry-run"),
        is_flag=True,
        is_session=True,
    )
    cond: bool = _flag(False, click.BOOL, "Train conditionally on the labels.")
    subset: int | None = _flag(None, COUNT, "Maximum number of training images.", shown="all")
    mirror: bool = _flag(False, click.BOOL, "Add horizontally flipped copies.")
    cfg: str = _flag("auto", configurations, "Base configuration; see docs/training.md.")
    small: bool = _flag(
        False,
        click.BOOL,
        "Give --cfg a capacity and schedule for a CPU; see docs/training.md.",
        shown="without GPU and --cfg",
        metavar="[BOOL]",
        is_flag=False,
        flag_value=True,
    )
    gamma: float | None = _flag(None, NOT_NEGATIVE, "R1 regularization weight.", shown=OF_CFG)
    kimg: int | None = _flag(None, COUNT, "Training length in thousands of real images.", shown=OF_CFG)
    time: float | None = _flag(
        None, Duration(), "Training length as a time, such as 30m, 8h or 2d; it plans ticks and snapshots."
    )
    """Seconds."""
    batch: int | None = _flag(None, COUNT, "Total batch size.", shown=OF_CFG)
    batch_gpu: int | None = _flag(None, COUNT, "Images per forward and backward pass.", shown=OF_CFG)
    cbase: int | None = _flag(None, COUNT, "Capacity: channels times resolution.", shown=OF_CFG)
    cmax: int | None = _flag(None, COUNT, "Maximum number of channels per layer.", shown=OF_CFG)
    glr: float | None = _flag(None, POSITIVE, "Learning rate of G.", shown=OF_CFG)
    dlr: float | None = _flag(None, POSITIVE, "Learning rate of D.", shown=OF_CFG)
    map_depth: int | None = _flag(None, COUNT, "Layers of the mapping network.", shown=OF_CFG)
    mbstd_group: int | None = _flag(None, COUNT, "Minibatch standard deviation group size.", shown=OF_CFG)
    aug: str | None = _flag(
        None,
        lambda: (*OWN_AUGMENTATIONS, *augmentations()),
        "Augmentation: none, adaptive, with a fixed probability, or that of a method.",
        shown=OF_CFG,
    )
    p: float | None = _flag(None, FRACTION, "Augmentation probability for --aug=fixed.")
    target: float | None = _flag(None, FRACTION, "Target of --aug=ada.", shown=str(ADA_TARGET))
    augpipe: str | None = _flag(None, click.Choice(list(AUGPIPES)), "Set of augmentations.", shown=DEFAULT_AUGPIPE)
    ada_max_p: float = _flag(1.0, NOT_NEGATIVE, "Upper bound of the augmentation probability; inf for none.")
    resume: str | None = _flag(
        None, click.STRING, "Snapshot to start from: a known name, path or URL.", shown="noresume", metavar="PKL"
    )
    trust_pickle: bool = _flag(
        False, click.BOOL, "Allow the file of --resume to execute code.", is_flag=True, is_session=True
    )
    noise: bool | None = _flag(None, click.BOOL, "Add noise in the layers of G.", shown=OF_CFG)
    freezed: int | None = _flag(None, click.IntRange(min=0), "Freeze the first N layers of D.", shown="0")
    precision: str | None = _flag(
        None,
        click.Choice(PRECISIONS),
        "Precision of the four highest resolutions; see docs/training.md.",
        shown=PRECISIONS[0],
    )
    fp32: bool = _flag(False, click.BOOL, "Same as --precision=fp32.")
    nhwc: bool = _flag(False, click.BOOL, "Accepted for compatibility; half precision is always channels-last.")
    nobench: bool = _flag(False, click.BOOL, "Disable cuDNN benchmarking.")
    allow_tf32: bool = _flag(False, click.BOOL, "Allow TensorFloat-32.")
    workers: int = _flag(3, click.IntRange(min=0), "Data loading processes.")
    desc: str | None = _flag(None, click.STRING, "Text to append to the name of the run folder.")
    progress: str = _flag(
        "auto",
        click.Choice(["auto", "plain", "none"]),
        "Console output: lines and a bar on terminals, lines only, or none.",
        is_session=True,
    )
    log: str | None = _flag(
        None,
        click.Choice(["wandb"]),
        "Send statistics and samples to Weights & Biases, too.",
        shown="write files only",
        is_session=True,
    )
    stop_on: str | None = _flag(
        None,
        click.Choice(["divergence"]),
        "Stop when training diverges, and keep the last checkpoint.",
        shown="never",
        is_session=True,
    )
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of methods on the command line, by name."""
    explicit: Collection[str] = ()
    """Names of the flags and settings on the command line, in its order."""

    @property
    def given(self) -> dict[str, Any]:
        """Values of the flags and settings on the command line that concern the run, not only a session of it."""
        values = {**self.settings, **vars(self)}
        session = {declared.name for declared in _declared() if declared.metadata["is_session"]}
        return {name: values[name] for name in self.explicit if name not in session}


def _declared() -> list[Field[Any]]:
    return [declared for declared in fields(Flags) if declared.metadata]


def flag_options() -> list[click.Option]:
    """Return the options of the command line, in the order of the declarations."""
    return [_option(declared) for declared in _declared()]


def _option(declared: Field[Any]) -> click.Option:
    type, help, shown, names, option = (
        declared.metadata[name] for name in ("type", "help", "shown", "names", "option")
    )
    return click.Option(
        [*(names or (flag_name(declared.name),)), declared.name],
        type=type if isinstance(type, click.ParamType) else click.Choice(list(type())),
        default=declared.default,
        show_default=shown is None,
        help=help if shown is None else f"{help}  [default: {shown}]",
        **option,
    )


def flag_name(name: str) -> str:
    """Return the flag as it is written on the command line, such as ``--batch-gpu``."""
    return "--" + name.replace("_", "-")
