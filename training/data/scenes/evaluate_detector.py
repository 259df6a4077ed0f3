"""How well the scene detector finds objects: ``python -m training.data.scenes.evaluate_detector``."""

from __future__ import annotations

from pathlib import Path

import click

from metrics.objects.accuracy import MIN_IOU, accuracy
from metrics.objects.crops import THRESHOLD
from metrics.objects.scene_detector import CATEGORIES, INPUT_PX, WEIGHTS, SceneDetector, load_scene_net
from training.data.scenes.train_detector import detect_all, draw_scenes

UNSEEN_SEED = 7_003
"""Seed of scenes that training has not seen."""

MIN_SIDE_PX = 4.0


@click.command()
@click.option("--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=WEIGHTS)
@click.option("--scenes", "num_scenes", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--threshold", type=click.FloatRange(0, 1), default=THRESHOLD, show_default=True, help="Minimum score")
def main(weights: Path, num_scenes: int, threshold: float) -> None:
    """Print recall and precision per category on unseen scenes of 64 px."""
    scenes = draw_scenes(num_scenes, UNSEEN_SEED)
    found = [
        one.select(one.scores >= threshold) for one in detect_all(SceneDetector(load_scene_net(weights)), scenes.images)
    ]
    rows = accuracy(zip(found, scenes.objects, strict=True), len(CATEGORIES), MIN_SIDE_PX)
    click.echo(
        f"{num_scenes} unseen scenes at {INPUT_PX} px, objects of {MIN_SIDE_PX:g} px and more, score >= {threshold:g}, "
        f"IoU >= {MIN_IOU:g}\n\n| category | true objects | recall | precision |\n|---|---|---|---|"
    )
    for category, row in zip(CATEGORIES, rows, strict=True):
        click.echo(f"| {category} | {row.num_true} | {row.recall:.2f} | {row.precision:.2f} |")


if __name__ == "__main__":
    main()
