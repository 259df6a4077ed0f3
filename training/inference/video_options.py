"""Command-line options of videos."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from dnnlib.flags import refuse
from training.data.video import FRAMES_PER_SEC, MAX_GIF_FPS
from training.inference.video_frames import EASINGS

FORMATS = ("mp4", "webp", "gif")
DEFAULT_FRAMES = 60
DEFAULT_HELD_FRAMES = 10
MAX_FRAMES = 100_000


@dataclass(frozen=True)
class VideoSettings:
    """What the options ask for.

    Attributes:
        suffix: Suffix of the file, one of `FORMATS`.
        frames: Number of frames from one key frame to the next, in a sweep, or for each picture of a run; None for the
            default.
        is_over_training: Whether it shows a run as it trained, not one network.
        is_loop: Whether it ends as it begins.
        easing: One of `EASINGS`.
        fps: Frames per second.
    """

    suffix: str
    frames: int | None
    is_over_training: bool
    is_loop: bool
    easing: str
    fps: int


def video_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which takes ``video``, a `VideoSettings` or None."""

    @click.option(
        "--video",
        type=click.Choice(FORMATS),
        is_flag=False,
        flag_value="mp4",
        help="Write a video through the images instead of single images; mp4 becomes webp without the packages for it.",
    )
    @click.option(
        "--over-training",
        is_flag=True,
        help="Show the training run of --network: the grids that it drew, or --seeds by each of its snapshots.",
    )
    @click.option(
        "--frames",
        type=click.IntRange(1, MAX_FRAMES),
        metavar="INT",
        help=f"Frames from one image to the next.  [default: {DEFAULT_FRAMES}; per picture of a run "
        f"{DEFAULT_HELD_FRAMES}]",
    )
    @click.option(
        "--loop", type=bool, metavar="BOOL", default=True, show_default=True, help="End the video where it begins."
    )
    @click.option(
        "--easing",
        type=click.Choice(EASINGS),
        default="smooth",
        show_default=True,
        help="Steady, slowing down at each image, or along a curve without stops.",
    )
    @click.option(
        "--fps",
        type=click.IntRange(1, 100),
        metavar="INT",
        default=FRAMES_PER_SEC,
        show_default=True,
        help=f"Frames per second; a GIF has {MAX_GIF_FPS} at most.",
    )
    @functools.wraps(command)
    def with_video(
        *args: Any,
        video: str | None,
        over_training: bool,
        frames: int | None,
        loop: bool,
        easing: str,
        fps: int,
        **kwargs: Any,
    ) -> Any:
        if video is None:
            refuse("needs --video", "over_training", "frames", "loop", "easing", "fps")
        if over_training:
            refuse("has no effect with --over-training", "loop", "easing")
        settings = None if video is None else VideoSettings(video, frames, over_training, loop, easing, fps)
        return command(*args, video=settings, **kwargs)

    return with_video
