"""The warnings, one function each: from the history of a run to a message, or None while all is well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dnnlib.formatting import format_number
from metrics.direction import is_higher_better
from training.run.health.history import DIVERSITY, LEAK, NEAREST_REAL, WINDOW_TICKS, History

NONFINITE = "Health/nonfinite_grads/"
MAX_LOSS = 100.0
"""Largest loss before training counts as diverging. A large loss of -log sigmoid about equals the logit: D is then sure
to e^-100, and nothing is learned."""
MIN_AHEAD_SIGN = 0.95
"""Mean sign of logits from which D is far ahead of G. ADA (arXiv 2006.06676, section 3) aims at 0.6 and calls 1
complete overfitting; runs that go well were seen to reach 0.93."""
MAX_SAFE_P = 0.8
"""Largest probability at which augmentations do not leak in practice (arXiv 2006.06676, section 2.2)."""
LEAK_SHARE = 0.75
"""Largest distance to augmented images, relative to that to the images themselves, that counts as a leak. Samples that
are all turned the same way have 1/sqrt(2), half as far in the mean of the direction and as far again in its spread;
those of a run that has just begun were seen to have 0.77 and more."""
MIN_DIVERSITY = 0.15
"""Smallest normal diversity relative to real images. An estimate: no collapse has been measured yet."""
MIN_DIVERSITY_SHARE = 0.4
"""Smallest normal diversity relative to its highest value in the run."""
SEEN_DIVERSITY = 0.3
"""Diversity that samples must have reached before a fall counts: the first grids show hardly anything."""
COLLAPSE_KIMG = 20.0
"""Length of training before which it is normal that all samples look alike."""
MIN_NEAREST_REAL = 0.35
"""Smallest normal distance to the nearest real image, relative to that between real images. The mean of all images,
which copies none, has 0.7 in high dimension: its distance to each is the standard deviation, that between two is
sqrt(2) times as much."""
MAX_SCORES_WITHOUT_BEST = 8
"""Scores without a new best one from which the run counts as stagnating."""
MIN_STAGNANT_SHARE = 0.4
"""Fraction of the training so far that must have passed since the best score."""


@dataclass(frozen=True)
class HealthWarning:
    """A warning that training is going wrong."""

    kind: str
    """Name of the warning in ``stats.jsonl`` and in the console line of a tick."""
    value: float
    """The measured value."""
    text: str
    """One line: what was measured, what it means, and which flags to try."""


def divergence(history: History) -> HealthWarning | None:
    """Gradients or losses are not finite, or losses are too large to learn from."""
    tick = history.ticks[-1]
    counts = {phase: count for phase, count in tick.below(NONFINITE).items() if count}
    advice = "lower --glr and --dlr or raise --gamma"
    if counts:
        phase, count = max(counts.items(), key=lambda item: item[1] or 0.0)
        assert count is not None
        text = f"{count:.0f} gradient values per step of phase {phase} were not finite and were replaced"
        return HealthWarning("divergence", count, f"training diverges: {text}; {advice}")
    for name in ("Loss/G/loss", "Loss/D/loss"):
        value = tick.means.get(name, 0.0)
        if value is None or abs(value) > MAX_LOSS:
            shown = "not finite" if value is None else format_number(value)
            text = f"{name} is {shown}, where at most a few tens are usual"
            return HealthWarning(
                "divergence", MAX_LOSS if value is None else value, f"training diverges: {text}; {advice}"
            )
    return None


def discriminator_ahead(history: History) -> HealthWarning | None:
    """D tells all images apart, so that G learns little from it."""
    signs = [
        min(tick.means.get("Loss/signs/real") or 0.0, -(tick.means.get("Loss/signs/fake") or 0.0))
        for tick in history.ticks
    ]
    if len(signs) < WINDOW_TICKS or min(signs) < MIN_AHEAD_SIGN:
        return None
    sure = (1 + min(signs)) / 2
    return HealthWarning(
        "discriminator_ahead",
        signs[-1],
        f"the discriminator is far ahead: for {WINDOW_TICKS} ticks it has told at least {sure:.1%} of real and of "
        "generated images apart, and the generator learns little from that; raise --gamma, lower --dlr, or add "
        "--aug=ada if there are few images",
    )


def _lasting_p(history: History) -> float:
    """Return the smallest probability of augmentation in the window, 0 before the window is full."""
    ps = [tick.means.get("Progress/augment") or 0.0 for tick in history.ticks]
    return min(ps) if len(ps) == WINDOW_TICKS else 0.0


def augmentation_at_limit(history: History) -> HealthWarning | None:
    """The augmentation probability of ADA has stayed at its upper bound."""
    p = _lasting_p(history)
    if not history.is_adaptive or history.max_p is None or p <= 0 or p < history.max_p - 1e-3:
        return None
    return HealthWarning(
        "augmentation_at_limit",
        p,
        f"the augmentation probability has been at its limit of {history.max_p:g} for {WINDOW_TICKS} ticks and the "
        "discriminator still overfits: there are too few images for these networks; halve --cbase, add --mirror=1, or "
        "start from another snapshot with --resume and --freezed",
    )


def augmentation_may_leak(history: History) -> HealthWarning | None:
    """ADA augments so often that the generator cannot tell what is part of the images."""
    p = _lasting_p(history)
    if not history.is_adaptive or not history.has_leaky_augmentation or p <= MAX_SAFE_P:
        return None
    return HealthWarning(
        "augmentation_may_leak",
        p,
        f"the augmentation probability has been above {MAX_SAFE_P:g} for {WINDOW_TICKS} ticks (now {p:.2f}): from "
        "there on its rotations and colors can leak into the samples; look for them, and if you see any start a new "
        "run with --resume=EARLIER_SNAPSHOT and --ada-max-p=0.8 or --augpipe=bg",
    )


def augmentation_leaks(history: History) -> HealthWarning | None:
    """Samples look like augmented images rather than like the images."""
    values = history.measured.get(LEAK, [])
    if len(values) < 2 or max(values) > LEAK_SHARE:
        return None
    return HealthWarning(
        "augmentation_leaks",
        values[-1],
        f"augmentations leak into the samples: in color, contrast and direction these are {1 / values[-1]:.1f} times "
        "closer to augmented images than to the images; start a new run with --resume=EARLIER_SNAPSHOT and "
        "--ada-max-p=0.8 or fewer transforms (--augpipe=bg)",
    )


def mode_collapse(history: History) -> HealthWarning | None:
    """Samples become alike."""
    values = history.measured.get(DIVERSITY, [])
    if len(values) < 2:
        return None
    highest = history.highest_diversity
    has_fallen = highest >= SEEN_DIVERSITY and max(values) < MIN_DIVERSITY_SHARE * highest
    if not has_fallen and (max(values) > MIN_DIVERSITY or history.kimg < COLLAPSE_KIMG):
        return None
    before = f", down from {highest:.0%}" if has_fallen else ""
    return HealthWarning(
        "mode_collapse",
        values[-1],
        f"mode collapse: the samples differ from one another by {values[-1]:.0%} of what real images do{before}; "
        "start a new run with --resume=EARLIER_SNAPSHOT and a higher --gamma, a larger --batch or a lower --glr",
    )


def memorization(history: History) -> HealthWarning | None:
    """Samples repeat training images."""
    values = history.measured.get(NEAREST_REAL, [])
    if len(values) < 2 or max(values) > MIN_NEAREST_REAL:
        return None
    return HealthWarning(
        "memorization",
        values[-1],
        f"samples repeat training images: half of them are closer to one than {values[-1]:.0%} of the usual distance "
        "between two training images; stop earlier, halve --cbase, use --aug=ada or --mirror=1, or add images",
    )


def stagnation(history: History) -> HealthWarning | None:
    """The score has not improved for a long time."""
    if not history.scores:
        return None
    sign = -1 if is_higher_better(history.score) else 1
    values = [sign * value for _kimg, value in history.scores]
    best = values.index(min(values))
    best_kimg, best_value = history.scores[best]
    num_since, kimg = len(values) - 1 - best, history.scores[-1][0]
    if num_since < MAX_SCORES_WITHOUT_BEST or kimg - best_kimg < MIN_STAGNANT_SHARE * kimg:
        return None
    return HealthWarning(
        "stagnation",
        float(num_since),
        f"{history.score} has not improved for {num_since} evaluations: its best value {format_number(best_value)} was "
        f"at {best_kimg:g} kimg and it is {format_number(history.scores[-1][1])} now; stop and take the best snapshot, "
        "or try more images, another --gamma or lower learning rates (--glr, --dlr)",
    )


def find_warnings(history: History) -> Iterator[HealthWarning]:
    """Yield the warnings that apply at the last tick."""
    checks = (
        divergence,
        discriminator_ahead,
        augmentation_at_limit,
        augmentation_may_leak,
        augmentation_leaks,
        mode_collapse,
        memorization,
        stagnation,
    )
    if history.ticks:
        yield from (warning for check in checks if (warning := check(history)) is not None)
