"""Train the scene detector that metrics/objects/ ships: ``python -m training.data.scenes.train_detector``.

Takes about a quarter of an hour of one CPU core. The same seed and machine give the same weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import safetensors.torch
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dnnlib.atomic import write_atomic
from dnnlib.click_types import MAX_SEED
from dnnlib.progress import progress_bar
from metrics.objects.accuracy import MIN_IOU, TrueObjects
from metrics.objects.boxes import matches
from metrics.objects.protocol import Detections
from metrics.objects.scene_detector import CATEGORIES, INPUT_PX, WEIGHTS, SceneDetector, SceneNet
from training.data.scenes.detector_loss import detection_loss
from training.data.scenes.scene import scene

TRAINING_SEED, CALIBRATION_SEED = 7_001, 7_002
"""Seeds of the scenes; datasets have other seeds, so that their scenes are new to the detector."""

BATCH = 24
LR = 2e-3
WEIGHT_DECAY = 0.01
WARMUP_STEPS = 200
"""Steps in which the learning rate rises; in the second half of the training it falls to zero."""

EMA = 0.995
"""Per step, of the moving average of the weights, which is the result."""

REPORT_STEPS = 250
"""Steps between two versions of the file."""

THRESHOLD = 0.4
"""Score at which the balance of recall and precision shall be best."""


class Scenes(NamedTuple):
    """Scenes in memory: images uint8 [N, 3, 64, 64], and their objects from far to near."""

    images: torch.Tensor
    objects: list[TrueObjects]


def draw_scenes(num: int, seed: int) -> Scenes:
    """Draw the scenes 0 to ``num`` - 1 of a seed, at 64 px."""
    images, objects = [], []
    with progress_bar("scenes", num) as progress:
        for index in range(num):
            pixels, things = scene(seed, index, INPUT_PX)
            boxes = torch.tensor([thing["box"] for thing in things], dtype=torch.float32).reshape(-1, 4)
            objects.append(TrueObjects(boxes, torch.tensor([CATEGORIES.index(thing["category"]) for thing in things])))
            images.append(pixels)
            progress.update()
    return Scenes(torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()), objects)


def detect_all(detector: SceneDetector, images: torch.Tensor) -> list[Detections]:
    """Find the objects in images [N, 3, H, W]."""
    return [found for part in images.split(50) for found in detector.detect(part)]


def _batches(scenes: Scenes, num: int, rng: np.random.RandomState) -> Iterator[tuple[torch.Tensor, list[TrueObjects]]]:
    """Yield ``num`` random batches; half of the scenes are mirrored, and their brightness and contrast vary."""
    for _ in range(num):
        indices = rng.choice(len(scenes.images), BATCH, replace=False)
        images = scenes.images[indices].float()
        gain, shift = (torch.from_numpy(rng.uniform(low, high, [BATCH, 1, 1, 1])).float() for low, high in _JITTER)
        images = ((images - 128) * gain + 128 + shift).clamp(0, 255)
        objects = []
        for k, (index, mirror) in enumerate(zip(indices, rng.rand(BATCH) < 0.5, strict=True)):
            boxes, labels = scenes.objects[index]
            if mirror:
                images[k] = images[k].flip(2)
                boxes = torch.stack([INPUT_PX - boxes[:, 2], boxes[:, 1], INPUT_PX - boxes[:, 0], boxes[:, 3]], dim=1)
            objects.append(TrueObjects(boxes, labels))
        yield images.contiguous(memory_format=torch.channels_last), objects


_JITTER = ((0.85, 1.15), (-15.0, 15.0))


def train(scenes: Scenes, num_steps: int, seed: int) -> Iterator[SceneNet]:
    """Train a network; yield the moving average of its weights now and then and at the end."""
    torch.manual_seed(seed)
    net: SceneNet = SceneNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(EMA), use_buffers=True)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    with progress_bar("steps", num_steps) as progress:
        for step, (images, objects) in enumerate(_batches(scenes, num_steps, np.random.RandomState(seed))):
            optimizer.param_groups[0]["lr"] = LR * min((step + 1) / WARMUP_STEPS, 1, 2 * (num_steps - step) / num_steps)
            with torch.autocast("cpu", torch.bfloat16):
                logits, boxes = net(images)
            loss = detection_loss(logits.float(), boxes.float(), *zip(*objects, strict=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            average.update_parameters(net)
            progress.update()
            if (step + 1) % REPORT_STEPS == 0 or step + 1 == num_steps:
                yield copy.deepcopy(average.module).eval()  # type: ignore[misc]  # it is a SceneNet


def calibrate(net: SceneNet, scenes: Scenes) -> None:
    """Shift the scores of each category so that the harmonic mean of recall and precision is best at `THRESHOLD`."""
    found = detect_all(SceneDetector(net), scenes.images)
    best = torch.full([len(CATEGORIES)], THRESHOLD)
    for label in range(len(CATEGORIES)):
        num_true, scores, is_right = 0, [], []
        for one, true in zip(found, scenes.objects, strict=True):
            boxes, true_boxes = one.boxes[one.labels == label], true.boxes[true.labels == label]
            num_true += len(true_boxes)
            scores.append(one.scores[one.labels == label])
            is_right.append(torch.tensor(matches(boxes, true_boxes, MIN_IOU)) >= 0)
        ranked, order = torch.cat(scores).sort(descending=True)
        f1 = 2 * torch.cat(is_right)[order].cumsum(0) / (torch.arange(len(order)) + 1 + num_true)
        if len(order):
            best[label] = ranked[f1.argmax()]
    with torch.no_grad():
        assert net.score.bias is not None
        net.score.bias += math.log(THRESHOLD / (1 - THRESHOLD)) - torch.logit(best)


def save_weights(net: SceneNet, path: Path) -> None:
    """Write the weights in half precision."""
    halves = {name: value.half().contiguous() for name, value in net.state_dict().items() if value.is_floating_point()}
    write_atomic(path, safetensors.torch.save(halves, {"categories": ",".join(CATEGORIES)}))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=WEIGHTS, help="The file to write")
@click.option("--scenes", "num_scenes", type=click.IntRange(min=BATCH), default=6_000, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=6_000, show_default=True, help="Batches of 24 images")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
def main(out: Path, num_scenes: int, steps: int, seed: int) -> None:
    """Train the scene detector on drawn scenes and their true boxes."""
    torch.set_num_threads(1)  # sums in another order would give other weights
    training, calibration = draw_scenes(num_scenes, TRAINING_SEED), draw_scenes(300, CALIBRATION_SEED)
    for net in train(training, steps, seed):
        calibrate(net, calibration)
        save_weights(net, out)


if __name__ == "__main__":
    main()
