"""The training loop: phases on G and D in turn, and what happens between them, as a list of named steps.

It knows no particular method: networks, loss, augmentation and optimizers come as a ``class_name`` with arguments.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dnnlib.atomic import write_atomic
from dnnlib.util import EasyDict, UserError, construct_class_by_name, open_url
from torch_utils import misc, training_stats
from torch_utils.rng import seed_everything
from training import state as training_state
from training.ada import AdaptiveAugmentation
from training.batches import Batches
from training.continuation import apply_state, collect_state, gather
from training.data.grid import save_image_grid
from training.ema import ema_beta, update_ema
from training.evaluation import Evaluation
from training.image_grid import setup_snapshot_image_grid
from training.loss import Loss
from training.phases import Phase, make_phases
from training.run.log import RunLog, TickTimes, report_tick
from training.snapshots.load import load_network_pkl
from training.snapshots.portable import save_portable
from training.snapshots.save import save_snapshot
from training.stop_request import listen_for_stop

__all__ = ["save_image_grid", "setup_snapshot_image_grid", "training_loop"]

EXIT_STATUS = "exit_status.json"
"""File of the run folder that says why the loop ended."""


@dataclass
class Counters:
    """How far a run is."""

    cur_nimg: int = 0
    batch_idx: int = 0
    cur_tick: int = 0
    tick_start_nimg: int = 0
    total_sec: float = 0.0
    """Since the run began, times between continuations left out."""
    tick_sec: float = 0.0
    """Of training in this tick."""
    data_wait_sec: float = 0.0
    """The part of it spent waiting for images."""
    maintenance_sec: float = 0.0
    """Between the tick before and this one."""


def training_loop(
    run_dir: str = ".",
    training_set_kwargs: dict[str, Any] = {},  # noqa: B006 (read only, here and below)
    data_loader_kwargs: dict[str, Any] = {},  # noqa: B006
    G_kwargs: dict[str, Any] = {},  # noqa: B006
    D_kwargs: dict[str, Any] = {},  # noqa: B006
    G_opt_kwargs: dict[str, Any] = {},  # noqa: B006
    D_opt_kwargs: dict[str, Any] = {},  # noqa: B006
    augment_kwargs: dict[str, Any] | None = None,
    loss_kwargs: dict[str, Any] = {},  # noqa: B006
    metrics: list[str] = [],  # noqa: B006
    random_seed: int = 0,
    num_gpus: int = 1,
    rank: int = 0,
    batch_size: int = 4,
    batch_gpu: int = 4,
    ema_kimg: float = 10,
    ema_rampup: float | None = None,
    G_reg_interval: int | None = 4,
    D_reg_interval: int | None = 16,
    augment_p: float = 0,
    ada_target: float | None = None,
    ada_interval: int = 4,
    ada_kimg: float = 500,
    ada_max_p: float = 1.0,
    total_kimg: float = 25000,
    kimg_per_tick: float = 4,
    image_snapshot_ticks: int | None = 50,
    network_snapshot_ticks: int | None = 50,
    metrics_ticks: int | None = None,
    state_interval_sec: float = 600,
    snapshot_formats: tuple[str, ...] = ("pkl",),
    resume_pkl: str | None = None,
    trust_pickle: bool = False,
    cudnn_benchmark: bool = True,
    allow_tf32: bool = False,
    detector_folder: str | None = None,
    progress: str = "plain",
    device: torch.device | str = "cpu",
    abort_fn: Callable[[], bool] | None = None,
    progress_fn: Callable[[int, float], None] | None = None,
) -> bool:
    """Train, or go on with the training whose state lies in ``run_dir``; every process calls this.

    Args:
        run_dir: Run folder; it exists.
        training_set_kwargs: Dataset, with ``class_name``.
        data_loader_kwargs: Further arguments of ``torch.utils.data.DataLoader``.
        G_kwargs: Generator, with ``class_name``; channels, resolution and labels come from the dataset.
        D_kwargs: Discriminator, likewise.
        G_opt_kwargs: Optimizer of G, with ``class_name``.
        D_opt_kwargs: Optimizer of D, likewise.
        augment_kwargs: Augmentation, with ``class_name``; None for none.
        loss_kwargs: Loss, with ``class_name``.
        metrics: Names to evaluate.
        random_seed: Decides everything random.
        num_gpus: Number of processes.
        rank: This process.
        batch_size: Images per iteration, over all processes.
        batch_gpu: Images per pass of one process.
        ema_kimg: Half-life of the generator's moving average.
        ema_rampup: Limit of the half-life as a share of the images seen; None for none.
        G_reg_interval: Iterations between regularisations of G; None for every one, in one pass with the main loss.
        D_reg_interval: The same for D.
        augment_p: Probability of augmentation, the first one if it is adapted.
        ada_target: Target of adaptive augmentation; None keeps ``augment_p``.
        ada_interval: Iterations between adaptations.
        ada_kimg: Thousands of images in which p can move by 1.
        ada_max_p: Upper bound of p.
        total_kimg: Length of training in thousands of real images.
        kimg_per_tick: Length of a tick.
        image_snapshot_ticks: Ticks between sample grids; None for none.
        network_snapshot_ticks: Ticks between snapshots; None for none.
        metrics_ticks: Ticks between evaluations; None follows ``network_snapshot_ticks``.
        state_interval_sec: Shortest time between two training states, which are saved at the end of a tick.
        snapshot_formats: 'pkl', and 'safetensors' for a folder with G_ema beside it.
        resume_pkl: Snapshot to start from (transfer learning).
        trust_pickle: Let ``resume_pkl`` execute code.
        cudnn_benchmark: Let cuDNN choose its algorithms by timing.
        allow_tf32: Allow TensorFloat-32 in matrix products and convolutions.
        detector_folder: Where the metrics' detectors lie.
        progress: 'plain' prints a line per tick, 'auto' draws a bar on terminals as well, 'none' prints nothing.
        device: Device of this process.
        abort_fn: Asked at every tick whether to stop.
        progress_fn: Told (cur_nimg, total_nimg) at every tick.

    Returns:
        True if training is complete, False if it was stopped; a state to continue from has been saved then.

    Raises:
        UserError: The dataset or a setting does not fit.
    """
    torch.backends.cudnn.benchmark = cudnn_benchmark
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    return Trainer(EasyDict(locals())).run()


class Trainer:
    """One process's part of a run: what is trained, and what happens in which order.

    Args:
        opts: The arguments of `training_loop`.
    """

    def __init__(self, opts: EasyDict) -> None:
        self.opts = opts
        self.run_dir = Path(opts.run_dir)
        self.device = torch.device(opts.device)
        self.is_main = opts.rank == 0
        self.counters = Counters()
        self._last_state_nimg = -1
        self.total_nimg = opts.total_kimg * 1000
        seed_everything(opts.random_seed * opts.num_gpus + opts.rank)
        training_stats.init_multiprocessing(opts.rank, torch.device("cpu") if opts.num_gpus > 1 else None)
        self.stats = training_stats.Collector()

        self._open_dataset()
        self._build_networks()
        self._build_optimization()
        self._choose_samples()
        self.evaluation = Evaluation(opts, self.run_dir, self.device, self._say)
        log_bytes = self._restore_state()
        self.log = RunLog(self.run_dir, log_bytes, self.counters.cur_nimg) if self.is_main else None

    # Construction, in order.

    def _open_dataset(self) -> None:
        self._say("Loading training set...")
        self.training_set = construct_class_by_name(**self.opts.training_set_kwargs)
        self._say(f"  {len(self.training_set)} images {self.training_set.image_shape}, {self._describe_labels()}")

    def _describe_labels(self) -> str:
        return f"labels of width {self.training_set.label_dim}" if self.training_set.has_labels else "no labels"

    def _build_networks(self) -> None:
        self._say("Constructing networks...")
        opts, data = self.opts, self.training_set
        common = {
            "c_dim": data.label_dim,
            "img_resolution": data.resolution,
            "img_channels": data.num_channels,
        }
        self.G: Any = self._make_module(**opts.G_kwargs, **common)
        self.D = self._make_module(**opts.D_kwargs, **common)
        self.augment_pipe = None
        if opts.augment_kwargs is not None and (opts.augment_p > 0 or opts.ada_target is not None):
            self.augment_pipe = self._make_module(**opts.augment_kwargs)
            self.augment_pipe.get_buffer("p").fill_(opts.augment_p)
        self.G_ema = copy.deepcopy(self.G).eval()
        if opts.resume_pkl is not None and self.is_main and not training_state.list_states(self.run_dir):
            self._transfer_from(opts.resume_pkl)  # the others get rank 0's tensors
        for module in self.modules().values():
            _broadcast(module)
        if self.is_main and opts.progress != "none":
            self._print_summaries()

    def _make_module(self, **kwargs: Any) -> torch.nn.Module:
        module: torch.nn.Module = construct_class_by_name(**kwargs)
        return module.train().requires_grad_(False).to(self.device)

    def modules(self) -> dict[str, torch.nn.Module]:
        """The networks by the names that snapshots give them."""
        modules = {"G": self.G, "D": self.D, "G_ema": self.G_ema}
        return modules if self.augment_pipe is None else {**modules, "augment_pipe": self.augment_pipe}

    def _transfer_from(self, resume_pkl: str) -> None:
        self._say(f"Resuming from {resume_pkl}")
        with open_url(resume_pkl) as file:
            source = load_network_pkl(file, trusted=self.opts.trust_pickle)
        for name in ("G", "D", "G_ema"):
            try:
                misc.copy_params_and_buffers(source[name], getattr(self, name), require_all=False)
            except ValueError as error:
                raise UserError(f"--resume={resume_pkl}: {error}") from error

    def _print_summaries(self) -> None:
        batch = self.opts.batch_gpu
        z = torch.zeros([batch, self.G.z_dim], device=self.device)
        c = torch.zeros([batch, self.G.c_dim], device=self.device)
        # What is printed must not influence what is trained: noise is drawn from streams that are put back.
        with torch.no_grad(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            img = misc.print_module_summary(self.G_ema, [z, c])
            misc.print_module_summary(copy.deepcopy(self.D).eval(), [img, c])

    def _build_optimization(self) -> None:
        opts = self.opts
        parallel: dict[str, Any] = {
            "G_mapping": self._parallel(self.G.mapping),
            "G_synthesis": self._parallel(self.G.synthesis),
            "D": self._parallel(self.D),
        }
        self.loss: Loss = construct_class_by_name(
            device=self.device, augment_pipe=self.augment_pipe, **parallel, **opts.loss_kwargs
        )
        self.phases: list[Phase] = [
            *make_phases("G", self.G, opts.G_opt_kwargs, opts.G_reg_interval),
            *make_phases("D", self.D, opts.D_opt_kwargs, opts.D_reg_interval),
        ]
        self.ada = None
        if self.augment_pipe is not None and opts.ada_target is not None:
            self.ada = AdaptiveAugmentation(
                self.augment_pipe, opts.ada_target, opts.ada_interval, opts.batch_size, opts.ada_kimg, opts.ada_max_p
            )
        self.batches = Batches(
            self.training_set,
            batch_size=opts.batch_size,
            batch_gpu=opts.batch_gpu,
            z_dim=self.G.z_dim,
            rank=opts.rank,
            world_size=opts.num_gpus,
            seed=opts.random_seed,
            device=self.device,
            data_loader_kwargs=opts.data_loader_kwargs,
        )

    def _parallel(self, module: torch.nn.Module) -> torch.nn.Module:
        if self.opts.num_gpus == 1 or not any(True for _ in module.parameters()):
            return module
        device_ids = [self.device] if self.device.type == "cuda" else None
        # DDP takes care only of the parameters that require gradients when it is constructed.
        module.requires_grad_(True)
        with warnings.catch_warnings():
            # Newer versions of torch have another name for broadcast_buffers, older ones only this.
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = torch.nn.parallel.DistributedDataParallel(module, device_ids=device_ids, broadcast_buffers=False)
        module.requires_grad_(False)
        return wrapped

    def _choose_samples(self) -> None:
        """Latents and labels of the sample grids; every process draws them, so that all streams stay in step."""
        self.grid_size, self.grid_real, labels = setup_snapshot_image_grid(self.training_set)
        self.grid_z = torch.randn([labels.shape[0], self.G.z_dim], device=self.device)
        self.grid_c = torch.from_numpy(labels).to(self.device)

    # The loop.

    def run(self) -> bool:
        """Train until the end or until someone asks to stop; returns whether training is complete."""
        self._start_sec = time.perf_counter() - self.counters.total_sec
        self._last_state_sec = -math.inf
        if self.counters.cur_nimg == 0 and self.is_main:
            self._save_grid(self.grid_real, "reals.png", (0, 255))
            self._save_samples("fakes_init.png")
        self._say(f"Training for {self.opts.total_kimg:g} kimg...")
        with closing(self.batches), listen_for_stop() as stop, self._progress_bar() as self.bar:
            while not self._is_done():
                self._iterate()
                is_tick_over = self._is_tick_over()
                if is_tick_over:
                    self._end_tick()
                if stop.agreed() or (is_tick_over and self._is_aborted()):
                    break
            self._save_state_unless_saved()
            self._finish()
        return self._is_done()

    def _is_done(self) -> bool:
        return self.counters.cur_nimg >= self.total_nimg

    def _is_tick_over(self) -> bool:
        tick_nimg = self.counters.cur_nimg - self.counters.tick_start_nimg
        # The first tick ends after one iteration, so that a first look does not take long.
        return self._is_done() or self.counters.cur_tick == 0 or tick_nimg >= self.opts.kimg_per_tick * 1000

    def _is_aborted(self) -> bool:
        return self.opts.abort_fn is not None and any(gather(bool(self.opts.abort_fn()), self.opts.num_gpus))

    def _iterate(self) -> None:
        begin_sec, begin_wait_sec = time.perf_counter(), self.batches.wait_sec
        counters, opts = self.counters, self.opts
        inputs = self.batches.next(len(self.phases))
        for phase, rounds in zip(self.phases, inputs, strict=True):
            if counters.batch_idx % phase.interval == 0:
                phase.run(self.loss, rounds)
        update_ema(self.G_ema, self.G, ema_beta(opts.batch_size, counters.cur_nimg, opts.ema_kimg, opts.ema_rampup))
        counters.cur_nimg += opts.batch_size
        counters.batch_idx += 1
        self.bar.update(opts.batch_size)
        if self.ada is not None:
            self.ada.update(counters.batch_idx)
        counters.tick_sec += time.perf_counter() - begin_sec
        counters.data_wait_sec += self.batches.wait_sec - begin_wait_sec

    def _end_tick(self) -> None:
        begin_sec = time.perf_counter()
        self._report_tick()
        tick, is_done = self.counters.cur_tick, self._is_done()
        snapshot = None
        if _is_due(tick, self.opts.image_snapshot_ticks, is_done) and self.is_main:
            self._save_samples(f"fakes{self.counters.cur_nimg // 1000:06d}.png")
        if _is_due(tick, self.opts.network_snapshot_ticks, is_done):
            snapshot = self._save_snapshot()
        self.counters.cur_tick += 1
        self.counters.tick_start_nimg = self.counters.cur_nimg
        self.counters.tick_sec = self.counters.data_wait_sec = 0.0
        self.counters.maintenance_sec = time.perf_counter() - begin_sec
        is_evaluated = self.evaluation.is_due(tick, is_done)
        # Metrics may take longer than whoever stops a run is ready to wait.
        if is_done or is_evaluated or self._is_state_old():
            self._save_state_unless_saved()
        if is_evaluated:
            values = self.evaluation.run(self.G_ema, snapshot)
            if self.log is not None:
                self.log.write_metrics(self.counters.cur_nimg, values)
        self.counters.maintenance_sec = time.perf_counter() - begin_sec

    def _report_tick(self) -> None:
        counters = self.counters
        times = TickTimes(
            total=self._elapsed_sec(),
            tick=counters.tick_sec,
            maintenance=counters.maintenance_sec,
            data_wait=counters.data_wait_sec,
        )
        line = report_tick(
            counters.cur_tick,
            counters.cur_nimg,
            counters.cur_nimg - counters.tick_start_nimg,
            self.total_nimg,
            0.0 if self.augment_pipe is None else float(self.augment_pipe.get_buffer("p")),
            times,
            self.device,
        )
        self._say(line)
        for phase in self.phases:
            seconds = phase.stopwatch.read_sec()
            training_stats.report0(f"Timing/{phase.name}", [] if seconds is None else seconds)
        num_skipped = gather(self.training_set.num_skipped, self.opts.num_gpus)
        training_stats.report0("Health/skipped_images", sum(num_skipped))
        self.stats.update()
        log = self.log
        if log is not None:
            self._try_to_write(lambda: log.write(counters.cur_nimg, self.stats))
        if self.opts.progress_fn is not None:
            self.opts.progress_fn(counters.cur_nimg, self.total_nimg)

    # What a tick leaves behind.

    @torch.no_grad()
    def _save_samples(self, fname: str) -> None:
        parts = zip(self.grid_z.split(self.opts.batch_gpu), self.grid_c.split(self.opts.batch_gpu), strict=True)
        images = torch.cat([self.G_ema(z, c, noise_mode="const").cpu() for z, c in parts]).numpy()
        self._save_grid(images, fname, (-1, 1))

    def _save_grid(self, images: np.ndarray, fname: str, drange: tuple[float, float]) -> None:
        self._try_to_write(lambda: save_image_grid(images, self.run_dir / fname, drange, self.grid_size))

    def _save_snapshot(self) -> Path | None:
        for name, module in self.modules().items():
            if name != "G_ema":
                misc.check_ddp_consistency(module, ignore_regex=r".*\.w_avg")
        path = self.run_dir / f"network-snapshot-{self.counters.cur_nimg // 1000:06d}.pkl"
        if self.is_main:
            networks = {"augment_pipe": None, **self.modules()}
            self._try_to_write(lambda: save_snapshot(path, networks, self.opts.training_set_kwargs))
            if "safetensors" in self.opts.snapshot_formats:
                self._try_to_write(lambda: save_portable(path.with_suffix(""), self.G_ema))
        return path

    def _try_to_write(self, write: Callable[[], Any]) -> None:
        """A full disk must not end a run."""
        try:
            write()
        except OSError as error:
            self._say(f"Not written, training goes on: {error}")

    # Exact continuation.

    def _is_state_old(self) -> bool:
        is_old = time.perf_counter() - self._last_state_sec >= self.opts.state_interval_sec
        return bool(gather(is_old, self.opts.num_gpus)[0])  # clocks differ, and all must do the same

    def _save_state_unless_saved(self) -> None:
        """Write a training state, unless there is one of this moment; every process must call this."""
        if self._last_state_nimg == self.counters.cur_nimg:
            return
        self.counters.total_sec = self._elapsed_sec()
        tree = {
            "num_gpus": self.opts.num_gpus,
            "counters": asdict(self.counters),
            **collect_state(self),
        }
        if self.log is not None:
            self._write_state(tree, self.log)
        self._last_state_sec = time.perf_counter()
        self._last_state_nimg = self.counters.cur_nimg

    def _write_state(self, tree: dict[str, Any], log: RunLog) -> None:
        if not self._has_finite_weights():
            self._say("The weights are not finite: no training state written, the last good one stays")
            return
        nimg = self.counters.cur_nimg
        self._try_to_write(lambda: training_state.save_state(self.run_dir, nimg, {**tree, "log_bytes": log.num_bytes}))

    def _has_finite_weights(self) -> bool:
        tensors = [tensor for module in self.modules().values() for tensor in misc.params_and_buffers(module)]
        return all(bool(tensor.isfinite().all()) for tensor in tensors)

    def _restore_state(self) -> int:
        """Go on from the newest state in the run folder, if there is one; returns the length of its ``stats.jsonl``."""
        path = self._find_state() if self.is_main else None
        path = gather(path, self.opts.num_gpus)[0]
        if path is None:
            return 0
        tree = training_state.load_state(path)
        if tree["num_gpus"] != self.opts.num_gpus:
            raise UserError(f"{path} is of a run with --gpus={tree['num_gpus']}; continue it with as many")
        self.counters = Counters(**tree["counters"])
        try:
            apply_state(self, tree)
        except ValueError as error:
            raise UserError(f"{path}: {error}") from error
        self._last_state_nimg = self.counters.cur_nimg
        self._say(f"Continuing from {path.name}: {self.counters.cur_nimg / 1000:.1f} kimg done")
        return int(tree["log_bytes"])

    def _find_state(self) -> Path | None:
        training_state.remove_leftovers(self.run_dir)
        try:
            path, warnings = training_state.find_newest_state(self.run_dir)
        except training_state.DamagedStateError as error:
            raise UserError(str(error)) from error
        for warning in warnings:
            self._say(warning)
        return path

    # The end.

    def _finish(self) -> None:
        if self.log is None:
            return
        self._try_to_write(self.log.close)
        status = {
            "reason": "finished" if self._is_done() else "stopped",
            "kimg": self.counters.cur_nimg / 1000,
            "total_kimg": self.opts.total_kimg,
        }
        self._try_to_write(lambda: write_atomic(self.run_dir / EXIT_STATUS, json.dumps(status).encode()))

    def _elapsed_sec(self) -> float:
        return time.perf_counter() - self._start_sec

    def _progress_bar(self) -> tqdm:
        terminal = sys.__stderr__  # past the log file
        is_shown = self.is_main and self.opts.progress == "auto" and terminal is not None and terminal.isatty()
        return tqdm(
            total=self.total_nimg,
            initial=self.counters.cur_nimg,
            unit="img",
            file=terminal,
            leave=False,
            disable=not is_shown,
        )

    def _say(self, line: str) -> None:
        if self.is_main and self.opts.progress != "none":
            with tqdm.external_write_mode(file=sys.__stderr__):  # the bar makes way
                print(line, flush=True)


def _is_due(tick: int, interval_ticks: int | None, is_done: bool) -> bool:
    return interval_ticks is not None and (is_done or tick % interval_ticks == 0)


def _broadcast(module: torch.nn.Module) -> None:
    """Give every process the tensors of rank 0."""
    if torch.distributed.is_initialized():
        for tensor in misc.params_and_buffers(module):
            torch.distributed.broadcast(tensor.detach(), src=0)
