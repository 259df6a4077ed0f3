"""Small faults, and the tests that must notice each: `tests.planted_faults` plants them."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A replacement in one file, and the test files or tests of which one must fail."""

    path: str
    right: str
    """Occurs exactly once in the file."""
    wrong: str
    tests: tuple[str, ...]


FAULTS: dict[str, Fault] = {
    # dnnlib
    "errors name the temporary file": Fault(
        "dnnlib/atomic.py", " in (None, temp, str(temp)):", " is None:", ("tests/unit/dnnlib/test_atomic.py",)
    ),
    "temporary file stays after a failed write": Fault(
        "dnnlib/atomic.py", "            temp.unlink()\n", "            pass\n", ("tests/unit/dnnlib/test_atomic.py",)
    ),
    "errors inside a module look like a missing module": Fault(
        "dnnlib/object_names.py",
        'if err.name is None or not (module_name + ".").startswith(err.name + "."):',
        "if err.name is None:",
        ("tests/unit/dnnlib/test_object_names.py",),
    ),
    # package
    "modules of the package import those of the user": Fault(
        "package/modules.py",
        "if level > 0 or not is_ours(name):",
        "if level >= 0:",
        ("tests/unit/package/test_modules.py",),
    ),
    "classes are looked up among the user's": Fault(
        "dnnlib/object_names.py",
        "return HOME + module_name if is_below else module_name",
        "return module_name",
        ("tests/unit/package/test_modules.py",),
    ),
    "files name classes as the package does": Fault(
        "dnnlib/object_names.py",
        "cls.__module__.removeprefix(HOME)",
        "cls.__module__",
        ("tests/unit/package/test_generator.py",),
    ),
    "a trusted snapshot imports the user's modules": Fault(
        "training/snapshots/load.py",
        "super().find_class(module_name_here(module), name)",
        "super().find_class(module, name)",
        ("tests/unit/package/test_generator.py",),
    ),
    "all images have the label of the first": Fault(
        "package/generator.py",
        "self._map(part, c[start : start + batch_size], truncation)",
        "self._map(part, c[:1], truncation)",
        ("tests/unit/package/test_generator.py",),
    ),
    "everything in a repository is downloaded": Fault(
        "package/hub.py", ", allow_patterns=list(FILES))", ")", ("tests/unit/package/test_hub.py",)
    ),
    "the help of the script is rewritten": Fault(
        "package/command.py", "command = copy.copy(command)", "pass", ("tests/unit/package/test_command.py",)
    ),
    "the wheel keeps the permissions of the files": Fault(
        "build_backend/reproducible.py",
        "entry.external_attr = (0o100000 | FILE_MODE) << 16",
        "entry.external_attr = source.getinfo(name).external_attr",
        ("tests/unit/build_backend/test_reproducible.py",),
    ),
    "the sdist keeps the owner of the files": Fault(
        "build_backend/reproducible.py",
        "entry = tarfile.TarInfo(member.name)",
        "entry = member",
        ("tests/unit/build_backend/test_reproducible.py",),
    ),
    # comparison
    "seeds of a comparison set by its --extra": Fault(
        "comparison/plan.py", "    check_common(flags, methods)\n", "", ("tests/unit/test_compare.py",)
    ),
    "records replace another comparison": Fault(
        "comparison/publication.py",
        "    _check_folder(plan, dest)\n",
        "",
        ("tests/unit/comparison/test_publication.py",),
    ),
    "the user's folders are leftovers": Fault(
        "comparison/jobs.py",
        'all(each.name.startswith(".") and each.is_file() for each in path.iterdir())',
        "not (path / OPTIONS_FILE).is_file()",
        ("tests/unit/comparison/test_jobs.py",),
    ),
    "categories are checked after training": Fault(
        "metrics/metric_main.py",
        "return {**missing, **_unknown_categories(detector, categories)}",
        "return missing",
        ("tests/unit/metrics/test_metric_main.py",),
    ),
    "options are written before the images are compared": Fault(
        "training/run/continuation.py",
        "        if is_moved:\n",
        "        if False:\n",
        ("tests/unit/training/run/test_continuation.py",),
    ),
    "runs among the images": Fault(
        "training/run/new_run.py",
        "        _check_outside(outdir, flag, path)\n",
        "        pass\n",
        ("tests/unit/training/run/test_new_run.py",),
    ),
    "a run that its time has ended takes a new length": Fault(
        "training/run/continuation.py",
        "limit_sec <= old_limit_sec",
        "limit_sec < 0",
        ("tests/unit/training/run/test_continuation_length.py",),
    ),
    "a run is given a time that it has spent": Fault(
        "training/run/continuation.py",
        "limit_sec <= spent_sec",
        "limit_sec < 0",
        ("tests/unit/training/run/test_continuation_length.py",),
    ),
    "commands with blanks": Fault(
        "dnnlib/commands.py",
        "{shlex.join(arguments)}",
        "{' '.join(arguments)}",
        ("tests/unit/dnnlib/test_commands.py",),
    ),
    "a package that users do not have": Fault(
        "comparison/statistics.py",
        "import numpy as np\n",
        "import numpy as np\nimport scipy\n",
        ("tests/unit/test_layout.py",),
    ),
    "a ratio without the error of the first mean": Fault(
        "comparison/statistics.py",
        "for each in (a, b)))",
        "for each in (b,)))",
        ("tests/unit/comparison/test_statistics.py",),
    ),
    "published records name paths of the machine": Fault(
        "comparison/publication.py",
        "Path(path).name if Path(path).is_absolute() else path",
        "path",
        ("tests/unit/comparison/test_publication.py",),
    ),
    "every snapshot is scored by what takes long": Fault(
        "comparison/jobs.py",
        "job.all_metrics if number == 0 else job.metrics",
        "job.all_metrics",
        ("tests/unit/comparison/test_jobs.py",),
    ),
    "a comparison averages all snapshots": Fault(
        "comparison/summary.py",
        "if point.kimg > start_kimg - self.tolerance_kimg\n            and all(",
        "if all(",
        ("tests/unit/comparison/test_run_values.py",),
    ),
    "threads of the user are ignored": Fault(
        "comparison/executors.py",
        '{"OMP_NUM_THREADS": str(self._num_threads), **os.environ}',
        '{**os.environ, "OMP_NUM_THREADS": str(self._num_threads)}',
        ("tests/unit/comparison/test_runner.py",),
    ),
    "the image compiles": Fault("Dockerfile", "--only-binary=:all: ", "", ("tests/integration/test_install.py",)),
    "deviations over seeds are those of a population": Fault(
        "comparison/statistics.py", "ddof=1", "ddof=0", ("tests/unit/comparison/test_statistics.py",)
    ),
    "equal images are those of the longest run": Fault(
        "comparison/summary.py",
        "return min((points[-1].kimg",
        "return max((points[-1].kimg",
        ("tests/unit/comparison/test_summary.py",),
    ),
    "scores are computed again": Fault(
        "comparison/jobs.py",
        "if path.name not in known[metric]",
        "if True",
        ("tests/unit/comparison/test_jobs.py",),
    ),
    "texts on pages are not escaped": Fault(
        "training/run/page/html.py",
        'return Html(html.escape("".join(',
        'return Html(("".join(',
        ("tests/unit/training/run/page/test_html.py",),
    ),
    # baselines
    "cutout of even sides is off by a pixel": Fault(
        "baselines/diffaug.py",
        "(center - side // 2)[:, None]",
        "(center - (side - 1) // 2)[:, None]",
        ("tests/unit/baselines/test_diffaug.py",),
    ),
    "LeCam compares real logits with real ones": Fault(
        "baselines/lecam.py",
        'other, sign = ("fake", 1) if kind == "real"',
        'other, sign = ("real", 1) if kind == "real"',
        ("tests/unit/baselines/test_extensions.py",),
    ),
    "pairs the wrong way round": Fault(
        "baselines/relativistic.py",
        "softplus(second[height] - first[height])",
        "softplus(first[height] - second[height])",
        ("tests/unit/baselines/test_extensions.py",),
    ),
    "direction learns from the adversarial loss": Fault(
        "baselines/san.py",
        "weight=direction.detach() * norm",
        "weight=direction * norm",
        ("tests/unit/baselines/test_extensions.py",),
    ),
    "queue forgets its position": Fault(
        "baselines/insgen/head.py",
        "self.position.copy_((self.position + len(keys)) % size)",
        "self.position.copy_(self.position % size)",
        ("tests/unit/baselines/test_insgen.py",),
    ),
    "levels are mixed without the coarser one": Fault(
        "baselines/projected/discriminator.py",
        "x = mixed[i] if not outputs else mixed[i] + outputs[-1]",
        "x = mixed[i]",
        ("tests/unit/baselines/test_projected.py::test_mixing",),
    ),
    # benchmarks
    "regularization is counted as if it ran always": Fault(
        "benchmarks/gpu_cost.py",
        "1 / phase.interval",
        "1",
        ("tests/unit/benchmarks/test_gpu_cost.py",),
    ),
    # torch_utils
    "sampler swaps with a later position": Fault(
        "torch_utils/sampler.py",
        "there = (here - distance) % num_items",
        "there = (here + distance) % num_items",
        ("tests/unit/torch_utils/test_sampler.py",),
    ),
    "random state forgets its position": Fault(
        "torch_utils/rng.py",
        'keys, numpy_state["position"], numpy_state["has_gauss"]',
        'keys, 0, numpy_state["has_gauss"]',
        ("tests/unit/torch_utils/test_rng.py",),
    ),
    "standard deviation without the mean": Fault(
        "torch_utils/training_stats.py",
        "total_squared / num - mean**2",
        "total_squared / num",
        ("tests/unit/torch_utils/test_training_stats.py",),
    ),
    "pickled tensor may be larger than its storage": Fault(
        "torch_utils/safe_pickle.py",
        "num_elements <= storage.flat.numel() and (num_elements == 0 or last < storage.flat.numel())",
        "num_elements == 0 or last < storage.flat.numel()",
        ("tests/unit/torch_utils/test_safe_pickle.py",),
    ),
    "copies share their constructor arguments": Fault(
        "torch_utils/persistence.py",
        "EasyDict(copy.deepcopy(self._init_kwargs))",
        "EasyDict(self._init_kwargs)",
        ("tests/unit/torch_utils/test_persistence.py",),
    ),
    # torch_utils/ops
    "no zero gradient where the output is clamped": Fault(
        "torch_utils/ops/bias_act.py",
        "gx = torch.ops.aten.hardtanh_backward(gx, u, -limit, limit)",
        "gx = gx + 0 * limit",
        ("tests/unit/torch_utils/ops/test_bias_act.py",),
    ),
    "upsampling pads a pixel too far": Fault(
        "torch_utils/ops/upfirdn2d.py",
        "y0 + (fh + up_y - 1) // 2, y1 + (fh - up_y) // 2]",
        "y0 + (fh + up_y) // 2, y1 + (fh - up_y) // 2]",
        ("tests/unit/torch_utils/ops/test_upfirdn2d.py",),
    ),
    "transposed kernel is not flipped": Fault(
        "torch_utils/ops/conv2d_resample.py",
        "if flip_weight:  # A transposed",
        "if not flip_weight:  # A transposed",
        ("tests/unit/torch_utils/ops/test_conv2d_resample.py",),
    ),
    "weight gradients are never disabled": Fault(
        "torch_utils/ops/conv2d_gradfix.py",
        "if ctx.needs_input_grad[1] and not _weight_gradients_disabled:",
        "if ctx.needs_input_grad[1]:",
        ("tests/unit/torch_utils/ops/test_conv2d_gradfix.py",),
    ),
    "second derivative of a weight gradient is twice as large": Fault(
        "torch_utils/ops/conv2d_gradfix.py",
        "grad_of_input = _input_gradient(grad_output, grad_weight, ctx.spec, input.shape[2:])",
        "grad_of_input = _input_gradient(grad_output, grad_weight, ctx.spec, input.shape[2:]) * 2",
        ("tests/unit/torch_utils/ops/test_conv2d_gradfix.py",),
    ),
    "second derivative of an activation is constant": Fault(
        "torch_utils/ops/bias_act.py",
        "gv, _ = _gradient(v, u, b, False, *ctx.how)",
        "gv = v",
        ("tests/unit/torch_utils/ops/test_bias_act.py",),
    ),
    # metrics
    "the newest record of a snapshot counts": Fault(
        "metrics/results.py",
        "found.setdefault(record.snapshot, record)",
        "found[record.snapshot] = record",
        ("tests/unit/metrics/test_results.py",),
    ),
    "images with the indices of others": Fault(
        "metrics/images.py",
        "yield Batch(indices, to_rgb(",
        "yield Batch(batch_indices[0], to_rgb(",
        ("tests/unit/metrics/test_images.py",),
    ),
    "features of other objects come from the cache": Fault(
        "metrics/objects/object_metrics.py",
        "protocol={name: opts.protocol[name] for name in settings}",
        "protocol={}",
        ("tests/unit/metrics/objects/test_object_metrics.py",),
    ),
    "features of objects are computed in silence": Fault(
        "metrics/objects/object_metrics.py",
        "            progress.update(sum(map(len, rows)))\n",
        "",
        ("tests/unit/metrics/objects/test_object_metrics.py",),
    ),
    "kernel distance is biased": Fault(
        "metrics/kernel_inception_distance.py",
        "(num_items * (num_items - 1))",
        "(num_items * num_items)",
        ("tests/unit/metrics/test_kernel_inception_distance.py",),
    ),
    "an item is its own neighbor": Fault(
        "metrics/precision_recall.py",
        "num_nearest = nhood_size + 1",
        "num_nearest = nhood_size",
        ("tests/unit/metrics/test_precision_recall.py",),
    ),
    "path length is not trimmed above": Fault(
        "metrics/perceptual_path_length.py",
        "(distances >= low) & (distances <= high)",
        "distances >= low",
        ("tests/unit/metrics/test_perceptual_path_length.py",),
    ),
    # training: core
    "moving average ramps up without limit": Fault(
        "training/ema.py",
        "ema_nimg = min(ema_nimg, cur_nimg * ema_rampup)",
        "ema_nimg = cur_nimg * ema_rampup",
        ("tests/unit/training/test_ema.py",),
    ),
    "augmentation runs away from its target": Fault(
        "training/ada.py",
        'np.sign(self._signs["Loss/signs/real"] - self._target)',
        'np.sign(self._target - self._signs["Loss/signs/real"])',
        ("tests/unit/training/test_ada.py",),
    ),
    "R1 at twice its weight": Fault(
        "training/loss.py",
        "penalty * (self.r1_gamma / 2)",
        "penalty * self.r1_gamma",
        ("tests/unit/training/test_loss.py",),
    ),
    "second momentum is not scaled to the interval": Fault(
        "training/phases.py", "[beta**ratio for beta in", "[beta for beta in", ("tests/unit/training/test_phases.py",)
    ),
    "images lie in the wrong range": Fault(
        "training/batches.py", "/ 127.5 - 1", "/ 128 - 1", ("tests/unit/training/test_batches.py",)
    ),
    "last image is mirrored": Fault(
        "training/dataset.py",
        "return idx >= self._num_images",
        "return idx >= self._num_images - 1",
        ("tests/unit/training/test_dataset.py",),
    ),
    "mean of w moves without decay": Fault(
        "training/networks.py",
        "w.mean(dim=0, dtype=self.w_avg.dtype).lerp(self.w_avg, self.w_avg_beta)",
        "w.mean(dim=0)",
        ("tests/unit/training/test_networks.py", "tests/unit/training/test_network_layers.py"),
    ),
    "scale is augmented in base e": Fault(
        "training/augment.py",
        "shrink = torch.exp2(-draws.apply(self.scale * p",
        "shrink = torch.exp(-draws.apply(self.scale * p",
        ("tests/unit/training/test_augment.py",),
    ),
    "damaged checkpoint is accepted": Fault(
        "training/checkpoint.py",
        "return None if words[:1] == [sha256_of(path)] else",
        "return None if words else",
        ("tests/unit/training/test_checkpoint.py",),
    ),
    # training/data
    "what cannot be read ends a checkpoint": Fault(
        "training/data/fingerprint.py",
        "sample = _unless_unreadable(lambda: next(_samples(archive, visible)))",
        "sample = next(_samples(archive, visible))",
        ("tests/unit/training/data/test_fingerprint.py",),
    ),
    "odd pixel is removed on the other side": Fault(
        "training/data/preparation.py",
        "math.trunc((old - new) / 2)",
        "-math.trunc((new - old - 1) / 2)",
        ("tests/unit/training/data/test_preparation.py",),
    ),
    "class numbers may be negative": Fault(
        "training/data/labels.py",
        "return 0 if 0 <= label < MAX_CLASSES else None",
        "return 0 if label < MAX_CLASSES else None",
        ("tests/unit/training/data/test_labels.py",),
    ),
    # training/snapshots
    "TensorFlow's width is not doubled": Fault(
        "training/snapshots/tensorflow.py",
        "value *= 2  # theirs",
        "value *= 1  # theirs",
        ("tests/unit/training/snapshots/test_tensorflow.py",),
    ),
    "exported weights may be missing": Fault(
        "training/snapshots/build.py",
        "for name in sorted(expected.keys() | found.keys()):",
        "for name in sorted(expected.keys() & found.keys()):",
        ("tests/unit/training/snapshots/test_portable.py",),
    ),
    # training/run
    "a leak of one direction is no leak": Fault(
        "training/run/health/signs.py",
        "LEAK_SHARE = 0.75",
        "LEAK_SHARE = 0.6",
        ("tests/unit/training/run/health/test_signs.py", "tests/integration/test_health.py"),
    ),
    "a CPU scores 50 000 images unasked": Fault(
        "training/run/choice.py",
        "if SCORING.isdisjoint(flags.explicit):",
        "if False:",
        ("tests/unit/training/run/test_choice.py",),
    ),
    "errors at the end of wandb stop training": Fault(
        "training/run/wandb_run.py",
        "        with _errors_of_wandb():\n            self._run.finish()",
        "        self._run.finish()",
        ("tests/unit/training/run/test_wandb_run.py",),
    ),
    "curves are never closed": Fault(
        "training/run/log.py",
        "                closing.callback(curves.close)\n",
        "                pass\n",
        ("tests/unit/training/run/test_log.py",),
    ),
    "a timed run hides its length": Fault(
        "training/training_loop.py",
        'self._write_status_and_page("running")  # progress',
        "self.watch.write_page()  # progress",
        ("tests/unit/training/test_training_loop_end.py",),
    ),
    "images per pass ignore the GPUs": Fault(
        "training/run/options.py",
        "batch_gpu = min(preset.batch // preset.ref_gpus, share)",
        "batch_gpu = min(preset.batch, share)",
        ("tests/unit/training/run/test_options.py",),
    ),
    "run folders are numbered from 1": Fault(
        "training/run/folder.py",
        "max(numbers, default=-1) + 1",
        "max(numbers, default=0) + 1",
        ("tests/unit/training/run/test_folder.py",),
    ),
    "snapshots are listed by name": Fault(
        "training/run/names.py",
        "return sorted((kimg, path) for kimg, path in found if kimg is not None)",
        "return [(kimg, path) for kimg, path in sorted(found, key=lambda each: each[1]) if kimg is not None]",
        ("tests/unit/training/run/test_names.py",),
    ),
    "what was not measured has a mean": Fault(
        "training/run/stats_file.py",
        "if num is None or num < 1 or",
        "if num is None or",
        ("tests/unit/training/run/test_stats_file.py",),
    ),
    # training/inference
    "noise of the projection falls linearly": Fault(
        "training/inference/projection.py",
        "max(0, 1 - progress / W_NOISE_PART) ** 2",
        "max(0, 1 - progress / W_NOISE_PART)",
        ("tests/unit/training/inference/test_projection.py",),
    ),
    "latents of a seed come from another stream": Fault(
        "training/inference/sampling.py",
        "np.random.RandomState(seed).randn(1, G.z_dim)",
        "np.random.RandomState(seed + 1).randn(1, G.z_dim)",
        ("tests/unit/training/inference/test_sampling.py",),
    ),
    # msconD
    "negatives within the excluded distance": Fault(
        "msconD/contrastive.py",
        "excluded = (distance < settings.con_neg_dist) & ~positive",
        "excluded = (distance > settings.con_neg_dist) & ~positive",
        ("tests/unit/msconD/test_contrastive.py",),
    ),
    "views are never flipped": Fault(
        "msconD/views.py",
        "sign = (uniform(-1, 1) < 0).float() * 2 - 1",
        "sign = (uniform(-1, 1) < 2).float() * 2 - 1",
        ("tests/unit/msconD/test_views.py",),
    ),
    "every scale weighs the same": Fault(
        "msconD/adversarial.py",
        "torch.stack([x * weights[h] for h, x in values.items()])",
        "torch.stack([x / len(weights) for h, x in values.items()])",
        ("tests/unit/msconD/test_adversarial.py",),
    ),
    "contrastive loss ignores its interval": Fault(
        "msconD/loss.py",
        "return weight * self.settings.con_interval * ramp",
        "return weight * ramp",
        ("tests/unit/msconD/test_loss.py",),
    ),
    # Scripts
    "unused cells of a grid are white": Fault(
        "training/inference/video_frames.py",
        "np.zeros([rows * height, columns * width, channels], np.uint8)",
        "np.full([rows * height, columns * width, channels], 255, np.uint8)",
        ("tests/unit/training/inference/test_video_frames.py",),
    ),
    "styles come from the row": Fault(
        "style_mixing.py",
        "mixed[styles] = col_w[styles]",
        "mixed[styles] = row_w[styles]",
        ("tests/unit/test_style_mixing.py",),
    ),
    "messages name scripts of the current folder wherever it is": Fault(
        "dnnlib/commands.py",
        "return Path.cwd().samefile(folder)",
        "return Path.cwd().exists()",
        ("tests/unit/dnnlib/test_commands.py",),
    ),
    "the heartbeat ends with its reader": Fault(
        "dnnlib/heartbeat.py",
        "contextlib.suppress(OSError)",
        "contextlib.suppress(KeyError)",
        ("tests/unit/dnnlib/test_heartbeat.py",),
    ),
    "a limit of a group above is overlooked": Fault(
        "torch_utils/main_memory.py",
        "for folder in (group, *group.parents)",
        "for folder in (group,)",
        ("tests/unit/torch_utils/test_main_memory.py",),
    ),
    "an odd first image decides alone": Fault(
        "training/data/writer.py",
        "if self._num_misfits > max_misfits:",
        "if self._num_misfits > 2 * max_misfits:",
        ("tests/unit/training/data/test_writer.py",),
    ),
    "projections are written at the end": Fault(
        "training/inference/projection_command.py",
        "for part in optimize(steps, len(batches), settings.num_steps, settings.keeps_trajectories):\n",
        "for part in list(optimize(steps, len(batches), settings.num_steps, settings.keeps_trajectories)):\n",
        ("tests/unit/test_projector.py",),
    ),
    "a run that diverged suggests to repeat it": Fault(
        "training/run/page/next_commands.py",
        'if run.state == "diverged":',
        'if run.state == "":',
        ("tests/unit/training/test_training_loop_watch.py",),
    ),
    "shapes are not computed on the meta device": Fault(
        "torch_utils/ops/conv2d_gradfix.py",
        "torch.amp.is_autocast_available(kind) and ",
        "",
        ("tests/unit/torch_utils/ops/test_conv2d_gradfix.py",),
    ),
    "every error of a worker is its death": Fault(
        "training/batches.py",
        '"DataLoader worker (pid"',
        '"DataLoader worker"',
        ("tests/unit/training/test_batches.py",),
    ),
    "white zeros are read as black": Fault(
        "training/data/codec.py",
        "return Image.fromarray(np.iinfo(np.uint16).max - np.asarray(image))",
        "return image",
        ("tests/unit/training/data/test_codec.py",),
    ),
    "a limit of CPU time ends what has saved everything": Fault(
        "training/stop_request.py",
        "if request.is_at_cpu_limit:",
        "if False:",
        ("tests/unit/training/test_stop_request.py",),
    ),
    "a checkpoint that was not written counts as one": Fault(
        "training/training_loop.py",
        "if distributed.from_rank0(is_saved):",
        "if distributed.from_rank0(True):",
        ("tests/unit/training/test_training_loop.py",),
    ),
}
