"""Allow-list of the classes that an options file may name; nothing else is imported."""

from __future__ import annotations

from typing import Any

from dnnlib.errors import UserError
from training.run.registry import augmentations, configurations, extensions

DATASET = "training.dataset.ImageFolderDataset"
AUGMENTATION = "training.augment.AugmentPipe"
OPTIMIZERS = ("torch.optim.Adam", "torch.optim.AdamW")

OPTIONAL = ("augment_kwargs", "metric_set_kwargs")


def allowed_classes() -> dict[str, tuple[str, ...]]:
    """Return the dotted names that may stand as ``class_name``, by argument of the training loop."""
    methods = configurations().values()
    return {
        "training_set_kwargs": (DATASET,),
        "metric_set_kwargs": (DATASET,),
        "G_kwargs": tuple(sorted({method.generator for method in methods})),
        "D_kwargs": tuple(sorted({method.discriminator for method in methods})),
        "loss_kwargs": tuple(sorted({method.loss for method in methods})),
        "augment_kwargs": (AUGMENTATION, *(option.class_name for option in augmentations().values())),
        "extension_kwargs": tuple(option.class_name for option in extensions().values()),
        "G_opt_kwargs": OPTIMIZERS,
        "D_opt_kwargs": OPTIMIZERS,
    }


def check_class_names(kwargs: dict[str, Any], where: str, is_trusted: bool) -> None:
    """Check the classes that options from a file name, before any of them is imported.

    Args:
        kwargs: Arguments of the training loop.
        where: The file, for the error.
        is_trusted: Whether to accept other dataset classes, too.

    Raises:
        UserError: A class is not allowed for its role.
    """
    for role, allowed in allowed_classes().items():
        for name in _class_names(role, kwargs.get(role)):
            if name in allowed or (role == "training_set_kwargs" and is_trusted and isinstance(name, str)):
                continue
            hint = "; a dataset class of your own needs --trust-pickle" if role == "training_set_kwargs" else ""
            raise UserError(f"{where}: {role} names the class {str(name)[:100]!a}, allowed: {', '.join(allowed)}{hint}")


def _class_names(role: str, settings: Any) -> list[Any]:
    if role == "extension_kwargs":
        each_settings = settings if isinstance(settings, list) else [] if settings is None else [settings]
    else:
        each_settings = [] if settings is None and role in OPTIONAL else [settings]
    return [each.get("class_name") if isinstance(each, dict) else None for each in each_settings]
