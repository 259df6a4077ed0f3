"""Generator and discriminator of StyleGAN2 with adaptive augmentation's options.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (arXiv 1912.04958) and "Training Generative
Adversarial Networks with Limited Data" (arXiv 2006.06676). All weights start as N(0, 1) and are scaled at run time
("equalized learning rate", arXiv 1710.10196), so that one learning rate suits every layer.

Snapshots carry the text of this file and run it on its own: it must stay one file that imports only what the official
code has too.

Letters in shapes: N batch, I, O input and output channels, H, W pixels, k kernel size, L = num_ws, R = img_resolution.

Arguments that recur:
    z_dim, c_dim, w_dim: Width of the latents z, the labels c (0 without labels) and the intermediate latents w.
    img_resolution, img_channels: Height and width of the image (a power of two) and its color channels.
    in_channels, out_channels, kernel_size, up, down: Geometry of a convolution; sampling factors are integers.
    resample_filter: Taps of the low-pass filter of up- and downsampling.
    activation: A key of `bias_act.activation_funcs`.
    lr_multiplier: Learning rate relative to other layers.
    conv_clamp: Limit of the magnitude of a layer's output (relative to its gain), or None.
    use_fp16, num_fp16_res: float16 for a block, for the N highest resolutions; on accelerators only.
    channels_last: Accepted for compatibility; the memory format of a layer is that of its block.
    fp16_channels_last: Channels-last memory format of a float16 block with ``force_fp32`` on accelerators; in half
        precision and on CPUs it is always that.
    conv_dtype: The dtype in which a convolution is computed, or None for that of its input.
    channel_base, channel_max: A layer has min(channel_base / resolution, channel_max) channels.
    force_fp32: Compute in float32 everywhere.
    fused_modconv: Accepted for compatibility; both values give the same computation.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from torch_utils import misc, persistence
from torch_utils.ops import bias_act, conv2d_resample, fma, upfirdn2d

try:
    from torch_utils.ops import demodulation, layout, modulation
except ImportError:  # beside the official code, which lacks them
    demodulation = layout = modulation = None  # type: ignore[assignment]

LOW_PASS = [1, 3, 3, 1]
ARCHITECTURES = ("orig", "skip", "resnet")
NOISE_MODES = ("random", "const", "none")
HOMOGENEOUS = ("linear", "relu", "lrelu")
"""Activations with act(gain * x) = gain * act(x) for any positive gain."""

_bf16_resolution = math.inf  # the lowest that trains in bfloat16


@contextmanager
def bfloat16_training(img_resolution: int, num_res: int) -> Iterator[None]:
    """Within this context, networks compute their ``num_res`` highest resolutions, from 8x8 up, in bfloat16.

    On accelerators features are bfloat16; on a CPU they are float32, and only the inputs of convolutions are rounded,
    except those of fromrgb and torgb. Parameters, images and logits are float32. It takes precedence over ``use_fp16``,
    and ``force_fp32`` over it. It belongs to a training run: snapshots are those of float32 networks.
    """
    global _bf16_resolution
    before, _bf16_resolution = _bf16_resolution, _lowest_half_resolution(img_resolution, num_res)
    try:
        yield
    finally:
        _bf16_resolution = before


def normalize_2nd_moment(x: torch.Tensor, dim: int = 1, eps: float = 1e-8) -> torch.Tensor:
    """Scale ``x`` to a mean square of 1 along ``dim``."""
    return x * (x.square().mean(dim=dim, keepdim=True) + eps).rsqrt()


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int = 0,
    resample_filter: torch.Tensor | None = None,
    demodulate: bool = True,
    flip_weight: bool = True,
    fused_modconv: bool = True,
    conv_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Convolve with per-sample scales of the input channels, and renormalize the output (arXiv 1912.04958, sec. 2.2).

    Per-sample weights are never built for larger kernels: scaling the input by the styles and the output by the
    demodulation coefficients gives the same values with one ordinary convolution.

    Args:
        x: ``[N, I, H, W]``.
        weight: ``[O, I, k, k]``, float32.
        styles: ``[N, I]``, one scale per sample and input channel.
        noise: Added to the result, broadcasts to ``[N, O, H', W']``, or None.
        down: Integer downsampling factor.
        padding: Padding in pixels of the upsampled image.
        resample_filter: Low-pass filter from `upfirdn2d.setup_filter`.
        demodulate: Scale each output channel of each sample to unit expected variance.
        flip_weight: True correlates, False convolves.

    Returns:
        ``[N, O, H', W']`` with the dtype of ``x``.
    """
    misc.assert_shape(weight, [None, x.shape[1], None, None])
    styles = _checked("styles", styles, x.shape[1], num=x.shape[0]).to(weight.dtype)
    if demodulate and x.dtype == torch.float16:  # Keeps products within range; demodulation cancels both factors.
        fan_in = weight[0].numel()
        weight = weight / (_largest(weight, [1, 2, 3]) * math.sqrt(fan_in))
        styles = styles / _largest(styles, [1])

    dcoefs = None
    if demodulate:
        dcoefs = (styles.square() @ weight.square().sum(dim=[2, 3]).t() + 1e-8).rsqrt()  # [N, O]
    if weight.shape[2] == weight.shape[3] == up == down == 1 and padding == 0:
        x = _modulated_pointwise(x, weight.flatten(1), styles, dcoefs)
        return x if noise is None else x.add_(noise.to(x.dtype))

    x = x * styles.to(x.dtype)[:, :, None, None]
    x = conv2d_resample.conv2d_resample(
        x, weight.to(conv_dtype or x.dtype), resample_filter, up=up, down=down, padding=padding, flip_weight=flip_weight
    )
    if dcoefs is None:
        return x if noise is None else x + noise.to(x.dtype)
    dcoefs = dcoefs.to(x.dtype)[:, :, None, None]
    return x * dcoefs if noise is None else fma.fma(x, dcoefs, noise.to(x.dtype))


def _largest(x: torch.Tensor, dim: list[int]) -> torch.Tensor:
    """Return the largest magnitude over some dimensions, or 1 where all are 0."""
    largest = x.abs().amax(dim, keepdim=True)
    return largest.masked_fill(largest == 0, 1)


def _modulated_pointwise(
    x: torch.Tensor, weight: torch.Tensor, styles: torch.Tensor, dcoefs: torch.Tensor | None
) -> torch.Tensor:
    """1x1 case, ``weight`` [O, I]: per-sample weights are smaller than the activations, so they are what is scaled."""
    weight = weight * styles[:, None, :]  # [N, O, I]
    if dcoefs is not None:
        weight = weight * dcoefs[:, :, None]
    pixels = x.flatten(2).transpose(1, 2)  # [N, H W, I]: a view, and so is its gradient, of channels-last memory
    y = pixels @ weight.to(x.dtype).transpose(1, 2)
    return y.transpose(1, 2).reshape(y.shape[0], y.shape[2], *x.shape[2:])


def _lowest_half_resolution(img_resolution: int, num_res: int) -> int:
    """Return the lowest of the ``num_res`` highest resolutions, in half precision; above the image's for none."""
    return max(2 ** (img_resolution.bit_length() - num_res), 8)


def _half_dtype(x: torch.Tensor, resolution: int, use_fp16: bool, force_fp32: bool) -> torch.dtype | None:
    """Return the half-precision dtype of a block, or None; float16 is for accelerators only."""
    if force_fp32:
        return None
    if resolution >= _bf16_resolution:
        return torch.bfloat16
    return torch.float16 if use_fp16 and not _is_on_cpu(x) else None


def _is_on_cpu(x: torch.Tensor) -> bool:
    return x.device.type == "cpu"


def _compute_format(x: torch.Tensor, half: torch.dtype | None, channels_last: bool) -> dict[str, Any]:
    """Return the arguments for ``Tensor.to``: ``half``, but float32 on CPUs; channels-last where it is faster.

    On a CPU it always is: depthwise filters run 3 to 25 times, 3x3 convolutions up to 1.5 times faster
    (docs/benchmarks.md). On a GPU it is in half precision, whose matrix units take channels-last operands.
    """
    channels_last = channels_last or _is_on_cpu(x) or half is not None
    return {
        "dtype": torch.float32 if _is_on_cpu(x) or half is None else half,
        "memory_format": torch.channels_last if channels_last else torch.contiguous_format,
    }


def _check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_resolution(resolution: int) -> int:
    """Return log2 of a valid image resolution."""
    if resolution < 4 or resolution & (resolution - 1) != 0:
        raise ValueError(f"img_resolution must be a power of two of at least 4, got {resolution}")
    return resolution.bit_length() - 1


def _num_channels(resolution: int, channel_base: int, channel_max: int) -> int:
    num = min(channel_base // resolution, channel_max)
    if num < 1:
        raise ValueError(
            f"channel_base must be at least the resolution, {resolution}, and channel_max at least 1, "
            f"got {channel_base} and {channel_max}"
        )
    return num


def _checked(name: str, x: torch.Tensor | None, width: int, num: int | None = None) -> torch.Tensor:
    """Return ``x`` if its shape is [num, width]; None allows any ``num``."""
    if x is None or x.ndim != 2 or x.shape[1] != width or (num is not None and x.shape[0] != num):
        got = None if x is None else list(x.shape)
        raise ValueError(f"{name} must have shape [{'N' if num is None else num}, {width}], got {got}")
    return x


@persistence.persistent_class
class FullyConnectedLayer(torch.nn.Module):
    """Dense layer: ``[N, in_features]`` to ``[N, out_features]``.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias_init: Initial value of the bias, before ``lr_multiplier``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "linear",
        lr_multiplier: float = 1,
        bias_init: float = 0,
    ) -> None:
        super().__init__()
        _check_choice("activation", activation, bias_act.activation_funcs)
        self.activation = activation
        self.weight = torch.nn.Parameter(torch.randn([out_features, in_features]) / lr_multiplier)
        self.bias = torch.nn.Parameter(torch.full([out_features], float(bias_init))) if bias else None
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, in_features]`` to ``[N, out_features]``, in the dtype of ``x``."""
        _checked("x", x, self.weight.shape[1])
        # The input is smaller than the weight matrix, so it takes the gain; lr_multiplier, the bias' gain, comes later.
        x = x * (self.weight_gain / self.bias_gain)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        x = torch.nn.functional.linear(x, self.weight.to(x.dtype), bias)
        gain = bias_act.activation_funcs[self.activation].def_gain
        if self.activation in HOMOGENEOUS:
            gain *= self.bias_gain
        else:
            x = x * self.bias_gain
        return x if self.activation == "linear" and gain == 1 else bias_act.bias_act(x, act=self.activation, gain=gain)


@persistence.persistent_class
class Conv2dLayer(torch.nn.Module):
    """Convolution with optional resampling, bias, activation and clamp.

    Args:
        trainable: False registers weight and bias as buffers (Freeze-D, arXiv 2002.10964).
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        bias: bool = True,
        activation: str = "linear",
        up: int = 1,
        down: int = 1,
        resample_filter: list[int] = LOW_PASS,
        conv_clamp: float | None = None,
        channels_last: bool = False,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        _check_choice("activation", activation, bias_act.activation_funcs)
        self.activation = activation
        self.up = up
        self.down = down
        self.conv_clamp = conv_clamp
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.padding = kernel_size // 2
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.act_gain = bias_act.activation_funcs[activation].def_gain
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        initial = {"weight": weight, "bias": torch.zeros([out_channels]) if bias else None}
        for name, tensor in initial.items():
            if trainable and tensor is not None:
                self.register_parameter(name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, x: torch.Tensor, gain: float = 1, conv_dtype: torch.dtype | None = None) -> torch.Tensor:
        """``[N, I, H, W]`` to ``[N, O, H', W']``; ``gain`` scales the output and its clamp."""
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        weight_gain, act_gain = self.weight_gain, self.act_gain * gain
        if self.bias is None and self.activation == "linear":
            # One factor on the weights instead of a pass over the output.
            weight_gain, act_gain = weight_gain * act_gain, 1
        weight, dtype = self.weight, conv_dtype or x.dtype
        if x.dtype == torch.float32 and x.numel() < weight.numel():  # Scale whichever is smaller; float16 has no room.
            x = x * weight_gain
        elif modulation is not None and modulation.is_fused(x):
            weight = layout.scaled_copy(weight, weight_gain, like=x)
        else:
            weight = weight * weight_gain
        x = conv2d_resample.conv2d_resample(
            x,
            weight.to(dtype),
            self.resample_filter,
            up=self.up,
            down=self.down,
            padding=self.padding,
            flip_weight=self.up == 1,
        )
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return bias_act.bias_act(x, bias, act=self.activation, gain=act_gain, clamp=clamp)


@persistence.persistent_class
class MappingNetwork(torch.nn.Module):
    """Maps latents z and labels c to intermediate latents w, one per layer of the synthesis network.

    Args:
        z_dim: Width of z; 0 for a network of labels alone.
        c_dim: Width of c; 0 without labels.
        num_ws: Copies of w to return, or None for w itself.
        num_layers: Number of dense layers.
        embed_features: Width of the embedded label; None is ``w_dim``.
        layer_features: Width between layers; None is ``w_dim``.
        w_avg_beta: Decay per batch of the running mean of w, or None for no mean.
    """

    w_avg: torch.Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_ws: int | None,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
        activation: str = "lrelu",
        lr_multiplier: float = 0.01,
        w_avg_beta: float | None = 0.995,
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.num_layers = num_layers
        self.w_avg_beta = w_avg_beta
        embed_features = 0 if c_dim == 0 else (w_dim if embed_features is None else embed_features)
        layer_features = w_dim if layer_features is None else layer_features
        features = [z_dim + embed_features] + [layer_features] * (num_layers - 1) + [w_dim]
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features)
        for i in range(num_layers):
            layer = FullyConnectedLayer(
                features[i], features[i + 1], activation=activation, lr_multiplier=lr_multiplier
            )
            setattr(self, f"fc{i}", layer)
        if num_ws is not None and w_avg_beta is not None:
            self.register_buffer("w_avg", torch.zeros([w_dim]))

    def forward(
        self,
        z: torch.Tensor | None,
        c: torch.Tensor | None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        skip_w_avg_update: bool = False,
    ) -> torch.Tensor:
        """Map ``z`` [N, z_dim] and ``c`` [N, c_dim] to ws.

        Args:
            z: Latents, N(0, 1).
            c: Labels, one-hot or real vectors.
            truncation_psi: Pulls w towards its mean: 1 leaves it alone, 0 gives the mean.
            truncation_cutoff: Truncate only the first N ws; None truncates all.
            skip_w_avg_update: Leave the running mean of w alone although in training mode.

        Returns:
            ``[N, num_ws, w_dim]``, or ``[N, w_dim]`` if num_ws is None.

        Raises:
            ValueError: ``z`` or ``c`` has a wrong shape, or truncation is asked of a network without a mean.
        """
        x = self._normalized_inputs(z, c)
        for i in range(self.num_layers):
            x = getattr(self, f"fc{i}")(x)
        if self.training and not skip_w_avg_update:
            self._update_w_avg(x.detach())
        if self.num_ws is not None:
            x = x[:, None].repeat([1, self.num_ws, 1])
        return self._truncate(x, truncation_psi, truncation_cutoff)

    def _normalized_inputs(self, z: torch.Tensor | None, c: torch.Tensor | None) -> torch.Tensor:
        parts = []
        if self.z_dim > 0:
            z = _checked("latents z", z, self.z_dim)
            parts.append(normalize_2nd_moment(z.to(torch.float32)))
        if self.c_dim > 0:
            c = _checked("labels c", c, self.c_dim, num=parts[0].shape[0] if parts else None)
            parts.append(normalize_2nd_moment(self.embed(c.to(torch.float32))))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _update_w_avg(self, w: torch.Tensor) -> None:
        if self.num_ws is not None and self.w_avg_beta is not None and w.shape[0] > 0:
            self.w_avg.copy_(w.mean(dim=0, dtype=self.w_avg.dtype).lerp(self.w_avg, self.w_avg_beta))

    def _truncate(self, ws: torch.Tensor, psi: float, cutoff: int | None) -> torch.Tensor:
        if isinstance(psi, (int, float)) and psi == 1:
            return ws
        if self.num_ws is None or self.w_avg_beta is None:
            raise ValueError(f"truncation_psi={psi} needs a running mean of w, which this network does not keep; use 1")
        truncated = self.w_avg + (ws - self.w_avg) * psi
        return truncated if cutoff is None else torch.cat([truncated[:, :cutoff], ws[:, cutoff:]], dim=1)


@persistence.persistent_class
class SynthesisLayer(torch.nn.Module):
    """Modulated convolution with noise, bias and activation.

    Args:
        resolution: Height and width of the output.
        use_noise: Add noise of learned strength.
    """

    resample_filter: torch.Tensor
    noise_const: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        kernel_size: int = 3,
        up: int = 1,
        use_noise: bool = True,
        activation: str = "lrelu",
        resample_filter: list[int] = LOW_PASS,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        _check_choice("activation", activation, bias_act.activation_funcs)
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.padding = kernel_size // 2
        self.act_gain = bias_act.activation_funcs[activation].def_gain
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        if use_noise:
            self.register_buffer("noise_const", torch.randn([resolution, resolution]))
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))

    def forward(
        self,
        x: torch.Tensor,
        w: torch.Tensor,
        noise_mode: str = "random",
        fused_modconv: bool = True,
        gain: float = 1,
        conv_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """``x`` [N, I, H, W] under style ``w`` [N, w_dim] to ``[N, O, resolution, resolution]``."""
        _check_choice("noise_mode", noise_mode, NOISE_MODES)
        in_resolution = self.resolution // self.up
        misc.assert_shape(x, [None, self.weight.shape[1], in_resolution, in_resolution])
        styles, noise = self.affine(w), self._noise(x, noise_mode)
        strength = self.noise_strength if self.use_noise else None
        geometry: dict[str, Any] = {"up": self.up, "padding": self.padding, "flip_weight": self.up == 1}
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        act: dict[str, Any] = {"act": self.activation, "gain": self.act_gain * gain, "clamp": clamp}
        if modulation is not None and modulation.is_fused(x):
            weight, styles, dcoefs = demodulation.demodulation_coefficients(self.weight, styles, x, self.up > 1)
            x = modulation.modulate(x, styles)
            x = conv2d_resample.conv2d_resample(x, weight, self.resample_filter, **geometry)
            return modulation.epilogue(x, dcoefs, noise, strength, self.bias, **act)
        geometry.update(resample_filter=self.resample_filter, conv_dtype=conv_dtype)
        if noise is not None:
            noise = noise * self.noise_strength
        x = modulated_conv2d(x, self.weight, styles, noise, **geometry)
        return bias_act.bias_act(x, self.bias.to(x.dtype), **act)

    def _noise(self, x: torch.Tensor, noise_mode: str) -> torch.Tensor | None:
        if not self.use_noise or noise_mode == "none":
            return None
        if noise_mode == "const":
            return self.noise_const
        return torch.randn([x.shape[0], 1, self.resolution, self.resolution], device=x.device)


@persistence.persistent_class
class ToRGBLayer(torch.nn.Module):
    """Modulated convolution from features to colors, without demodulation.

    Args:
        out_channels: Color channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        kernel_size: int = 1,
        conv_clamp: float | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.padding = kernel_size // 2
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1)
        self.weight = torch.nn.Parameter(torch.randn([out_channels, in_channels, kernel_size, kernel_size]))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)

    def forward(self, x: torch.Tensor, w: torch.Tensor, fused_modconv: bool = True) -> torch.Tensor:
        """``x`` [N, I, H, W] under style ``w`` [N, w_dim] to colors ``[N, O, H, W]``."""
        styles = self.affine(w) * self.weight_gain
        x = modulated_conv2d(x, self.weight, styles, padding=self.padding, demodulate=False)
        return bias_act.bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)


@persistence.persistent_class
class SynthesisBlock(torch.nn.Module):
    """All layers of the synthesis network at one resolution.

    Args:
        in_channels: Channels of the input; 0 makes this the first block, which starts from a learned constant.
        resolution: Height and width of the output.
        is_last: This is the last block.
        architecture: 'skip' adds up images, 'resnet' adds up features, 'orig' does neither.
        **layer_kwargs: Further arguments of `SynthesisLayer`.
    """

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        is_last: bool,
        architecture: str = "skip",
        resample_filter: list[int] = LOW_PASS,
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        **layer_kwargs: Any,
    ) -> None:
        super().__init__()
        _check_choice("architecture", architecture, ARCHITECTURES)
        self.in_channels = in_channels
        self.w_dim = w_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.is_last = is_last
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.num_conv = 0
        self.num_torgb = 0

        shared: dict[str, Any] = {"w_dim": w_dim, "conv_clamp": conv_clamp, "channels_last": self.channels_last}
        layer_kwargs = {"resolution": resolution, **shared, **layer_kwargs}
        if in_channels == 0:
            self.const = torch.nn.Parameter(torch.randn([out_channels, resolution, resolution]))
        else:
            self.conv0 = SynthesisLayer(
                in_channels, out_channels, up=2, resample_filter=resample_filter, **layer_kwargs
            )
            self.num_conv += 1
        self.conv1 = SynthesisLayer(out_channels, out_channels, **layer_kwargs)
        self.num_conv += 1
        if is_last or architecture == "skip":
            self.torgb = ToRGBLayer(out_channels, img_channels, **shared)
            self.num_torgb += 1
        if in_channels != 0 and architecture == "resnet":
            self.skip = Conv2dLayer(
                in_channels,
                out_channels,
                kernel_size=1,
                bias=False,
                up=2,
                resample_filter=resample_filter,
                channels_last=self.channels_last,
            )

    def forward(
        self,
        x: torch.Tensor | None,
        img: torch.Tensor | None,
        ws: torch.Tensor,
        force_fp32: bool = False,
        fused_modconv: bool | None = None,
        **layer_kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One resolution up.

        Args:
            x: Features ``[N, in_channels, resolution / 2, resolution / 2]``; None for the first block.
            img: Image so far ``[N, img_channels, resolution / 2, resolution / 2]``, float32, or None.
            ws: ``[N, num_conv + num_torgb, w_dim]``.
            **layer_kwargs: Further arguments of `SynthesisLayer.forward`.

        Returns:
            Features ``[N, out_channels, resolution, resolution]`` and the image, float32, or None.
        """
        misc.assert_shape(ws, [None, self.num_conv + self.num_torgb, self.w_dim])
        w_iter = iter(ws.unbind(dim=1))
        half = _half_dtype(ws, self.resolution, self.use_fp16, force_fp32)
        compute_format = _compute_format(ws, half, self.channels_last)
        layer_kwargs["conv_dtype"] = half
        if self.in_channels == 0:
            x = self.const[None].repeat([ws.shape[0], 1, 1, 1]).to(**compute_format)
            x = self.conv1(x, next(w_iter), **layer_kwargs)
        else:
            assert x is not None
            misc.assert_shape(x, [None, self.in_channels, self.resolution // 2, self.resolution // 2])
            x = self._upsampling_layers(x.to(**compute_format), w_iter, layer_kwargs)
        if img is not None:
            misc.assert_shape(img, [None, self.img_channels, self.resolution // 2, self.resolution // 2])
            img = upfirdn2d.upsample2d(img, self.resample_filter)
        if self.is_last or self.architecture == "skip":
            y = self.torgb(x, next(w_iter))
            img = y.to(torch.float32) if img is None else img + y  # a sum with float32 is float32
        return x, img

    def _upsampling_layers(self, x: torch.Tensor, w_iter: Any, layer_kwargs: dict[str, Any]) -> torch.Tensor:
        if self.architecture != "resnet":
            x = self.conv0(x, next(w_iter), **layer_kwargs)
            return self.conv1(x, next(w_iter), **layer_kwargs)
        y = self.skip(x, gain=math.sqrt(0.5), conv_dtype=layer_kwargs["conv_dtype"])
        x = self.conv0(x, next(w_iter), **layer_kwargs)
        return y + self.conv1(x, next(w_iter), gain=math.sqrt(0.5), **layer_kwargs)


@persistence.persistent_class
class SynthesisNetwork(torch.nn.Module):
    """Turns ws into images, from 4x4 up.

    Args:
        **block_kwargs: Further arguments of `SynthesisBlock`.
    """

    def __init__(
        self,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        **block_kwargs: Any,
    ) -> None:
        super().__init__()
        resolution_log2 = _check_resolution(img_resolution)
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.block_resolutions = [2**i for i in range(2, resolution_log2 + 1)]
        fp16_resolution = _lowest_half_resolution(img_resolution, num_fp16_res)
        self.num_ws = 0
        in_channels = 0
        for res in self.block_resolutions:
            out_channels = _num_channels(res, channel_base, channel_max)
            block = SynthesisBlock(
                in_channels,
                out_channels,
                w_dim=w_dim,
                resolution=res,
                img_channels=img_channels,
                is_last=res == img_resolution,
                use_fp16=res >= fp16_resolution,
                **block_kwargs,
            )
            setattr(self, f"b{res}", block)
            self.num_ws += block.num_conv
            in_channels = out_channels
        self.num_ws += block.num_torgb

    def forward(self, ws: torch.Tensor, **block_kwargs: Any) -> torch.Tensor:
        """``ws`` [N, num_ws, w_dim] to images ``[N, img_channels, R, R]`` of about [-1, 1], float32."""
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must have shape [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}")
        ws = ws.to(torch.float32)
        x = img = None
        first = 0
        for res in self.block_resolutions:
            block = getattr(self, f"b{res}")
            # A block's last style, that of torgb, is shared with the first layer of the next block.
            x, img = block(x, img, ws[:, first : first + block.num_conv + block.num_torgb], **block_kwargs)
            first += block.num_conv
        assert img is not None
        return img


@persistence.persistent_class
class Generator(torch.nn.Module):
    """Mapping and synthesis network in one: latents and labels to images.

    Args:
        mapping_kwargs: Further arguments of `MappingNetwork`.
        synthesis_kwargs: Further arguments of `SynthesisNetwork`.
    """

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        img_resolution: int,
        img_channels: int,
        mapping_kwargs: dict[str, Any] = {},  # noqa: B006 (read only; contract signature)
        synthesis_kwargs: dict[str, Any] = {},  # noqa: B006
    ) -> None:
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(w_dim, img_resolution, img_channels, **synthesis_kwargs)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim, c_dim, w_dim, self.num_ws, **mapping_kwargs)

    def forward(
        self,
        z: torch.Tensor,
        c: torch.Tensor | None,
        truncation_psi: float = 1,
        truncation_cutoff: int | None = None,
        **synthesis_kwargs: Any,
    ) -> torch.Tensor:
        """Latents ``[N, z_dim]`` and labels ``[N, c_dim]`` to images ``[N, img_channels, R, R]`` of about [-1, 1]."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)


@persistence.persistent_class
class DiscriminatorBlock(torch.nn.Module):
    """All layers of the discriminator at one resolution.

    Args:
        in_channels: Channels of the input; 0 makes this the first block, which starts from the image.
        tmp_channels: Channels between the two convolutions.
        resolution: Height and width of the input.
        first_layer_idx: Layers of all blocks before this one.
        architecture: 'resnet' adds up features, 'skip' feeds the image to every block, 'orig' does neither.
        freeze_layers: Layers with a lower index do not train (Freeze-D).
    """

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        tmp_channels: int,
        out_channels: int,
        resolution: int,
        img_channels: int,
        first_layer_idx: int,
        architecture: str = "resnet",
        activation: str = "lrelu",
        resample_filter: list[int] = LOW_PASS,
        conv_clamp: float | None = None,
        use_fp16: bool = False,
        fp16_channels_last: bool = False,
        freeze_layers: int = 0,
    ) -> None:
        super().__init__()
        _check_choice("architecture", architecture, ARCHITECTURES)
        self.in_channels = in_channels
        self.resolution = resolution
        self.img_channels = img_channels
        self.first_layer_idx = first_layer_idx
        self.architecture = architecture
        self.use_fp16 = use_fp16
        self.channels_last = use_fp16 and fp16_channels_last
        self.register_buffer("resample_filter", upfirdn2d.setup_filter(resample_filter))
        self.num_layers = 0

        shared: dict[str, Any] = {
            "resample_filter": resample_filter,
            "conv_clamp": conv_clamp,
            "channels_last": self.channels_last,
        }

        def layer(**kwargs: Any) -> Conv2dLayer:
            trainable = first_layer_idx + self.num_layers >= freeze_layers
            self.num_layers += 1
            return Conv2dLayer(trainable=trainable, **{**shared, **kwargs})

        if in_channels == 0 or architecture == "skip":
            self.fromrgb = layer(
                in_channels=img_channels, out_channels=tmp_channels, kernel_size=1, activation=activation
            )
        body = {"in_channels": tmp_channels, "kernel_size": 3, "activation": activation}
        self.conv0 = layer(out_channels=tmp_channels, **body)
        self.conv1 = layer(out_channels=out_channels, down=2, **body)
        if architecture == "resnet":
            self.skip = layer(
                in_channels=tmp_channels, out_channels=out_channels, kernel_size=1, bias=False, down=2, conv_clamp=None
            )

    def forward(
        self, x: torch.Tensor | None, img: torch.Tensor | None, force_fp32: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One resolution down.

        Args:
            x: Features ``[N, in_channels, resolution, resolution]``; None for the first block.
            img: Image ``[N, img_channels, resolution, resolution]`` where this block reads it, else None.

        Returns:
            Features ``[N, out_channels, resolution / 2, resolution / 2]`` and, if later blocks read it, the image at
            that size.
        """
        source = img if x is None else x
        assert source is not None
        half = _half_dtype(source, self.resolution, self.use_fp16, force_fp32)
        compute_format = _compute_format(source, half, self.channels_last)
        if x is not None:
            misc.assert_shape(x, [None, self.in_channels, self.resolution, self.resolution])
            x = x.to(**compute_format)
        if self.in_channels == 0 or self.architecture == "skip":
            assert img is not None
            misc.assert_shape(img, [None, self.img_channels, self.resolution, self.resolution])
            y = self.fromrgb(img.to(**compute_format))
            x = y if x is None else x + y
            img = upfirdn2d.downsample2d(img, self.resample_filter) if self.architecture == "skip" else None
        if self.architecture == "resnet":
            y = self.skip(x, gain=math.sqrt(0.5), conv_dtype=half)
            x = y + self.conv1(self.conv0(x, conv_dtype=half), gain=math.sqrt(0.5), conv_dtype=half)
        else:
            x = self.conv1(self.conv0(x, conv_dtype=half), conv_dtype=half)
        return x, img


@persistence.persistent_class
class MinibatchStdLayer(torch.nn.Module):
    """Appends the standard deviation within groups of images as extra channels (arXiv 1710.10196, section 3).

    Args:
        group_size: Images per group, at most the batch; None takes the whole batch.
        num_channels: Number of channels to append.
    """

    def __init__(self, group_size: int | None, num_channels: int = 1) -> None:
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[N, C, H, W]`` to ``[N, C + num_channels, H, W]``.

        Raises:
            ValueError: The batch cannot be divided into groups, or the channels into ``num_channels`` parts.
        """
        num, channels, height, width = x.shape
        group = max(num if self.group_size is None else min(self.group_size, num), 1)
        if num % group != 0 or channels % self.num_channels != 0:
            raise ValueError(
                f"minibatch std: batch {num} must be a multiple of the group size {group} "
                f"and {channels} channels of {self.num_channels}; choose another batch or mbstd group"
            )
        # Members of a group are N / group apart in the batch.
        y = x.reshape(group, num // group, self.num_channels, channels // self.num_channels, height, width)
        std = (y - y.mean(dim=0)).square().mean(dim=0).add(1e-8).sqrt()  # [N / group, F, C / F, H, W]
        std = std.mean(dim=[2, 3, 4])[:, :, None, None]  # [N / group, F, 1, 1]
        return torch.cat([x, std.repeat(group, 1, height, width)], dim=1)


@persistence.persistent_class
class DiscriminatorEpilogue(torch.nn.Module):
    """Last layers of the discriminator: 4x4 features to logits.

    Args:
        cmap_dim: Width of the mapped label, 0 without labels.
        resolution: Height and width of the input.
        mbstd_group_size: Group size of `MinibatchStdLayer`.
        mbstd_num_channels: Its number of channels; 0 leaves it out.
    """

    def __init__(
        self,
        in_channels: int,
        cmap_dim: int,
        resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        mbstd_group_size: int | None = 4,
        mbstd_num_channels: int = 1,
        activation: str = "lrelu",
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        _check_choice("architecture", architecture, ARCHITECTURES)
        self.in_channels = in_channels
        self.cmap_dim = cmap_dim
        self.resolution = resolution
        self.img_channels = img_channels
        self.architecture = architecture
        if architecture == "skip":
            self.fromrgb = Conv2dLayer(img_channels, in_channels, kernel_size=1, activation=activation)
        self.mbstd = MinibatchStdLayer(mbstd_group_size, mbstd_num_channels) if mbstd_num_channels > 0 else None
        self.conv = Conv2dLayer(
            in_channels + mbstd_num_channels, in_channels, kernel_size=3, activation=activation, conv_clamp=conv_clamp
        )
        self.fc = FullyConnectedLayer(in_channels * resolution**2, in_channels, activation=activation)
        self.out = FullyConnectedLayer(in_channels, 1 if cmap_dim == 0 else cmap_dim)

    def forward(
        self, x: torch.Tensor, img: torch.Tensor | None, cmap: torch.Tensor | None, force_fp32: bool = False
    ) -> torch.Tensor:
        """Features ``[N, in_channels, 4, 4]``, the image (skip only) and mapped labels to logits ``[N, 1]``."""
        misc.assert_shape(x, [None, self.in_channels, self.resolution, self.resolution])
        compute_format = _compute_format(x, half=None, channels_last=False)
        x = x.to(**compute_format)
        if self.architecture == "skip":
            assert img is not None
            x = x + self.fromrgb(img.to(**compute_format))
        if self.mbstd is not None:
            x = self.mbstd(x)
        x = self.conv(x)
        x = self.fc(x.flatten(1))
        x = self.out(x)
        if self.cmap_dim > 0:  # Projection discriminator (arXiv 1802.05637).
            assert cmap is not None
            misc.assert_shape(cmap, [None, self.cmap_dim])
            x = (x * cmap).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
        return x


@persistence.persistent_class
class Discriminator(torch.nn.Module):
    """Classifies images as real or generated: one logit each, high for real.

    Args:
        cmap_dim: Width of the mapped label; None takes the channels at 4x4.
        block_kwargs: Further arguments of `DiscriminatorBlock`.
        mapping_kwargs: Further arguments of `MappingNetwork`.
        epilogue_kwargs: Further arguments of `DiscriminatorEpilogue`.
    """

    def __init__(
        self,
        c_dim: int,
        img_resolution: int,
        img_channels: int,
        architecture: str = "resnet",
        channel_base: int = 32768,
        channel_max: int = 512,
        num_fp16_res: int = 0,
        conv_clamp: float | None = None,
        cmap_dim: int | None = None,
        block_kwargs: dict[str, Any] = {},  # noqa: B006
        mapping_kwargs: dict[str, Any] = {},  # noqa: B006
        epilogue_kwargs: dict[str, Any] = {},  # noqa: B006
    ) -> None:
        super().__init__()
        resolution_log2 = _check_resolution(img_resolution)
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.block_resolutions = [2**i for i in range(resolution_log2, 2, -1)]
        channels = {res: _num_channels(res, channel_base, channel_max) for res in [*self.block_resolutions, 4]}
        fp16_resolution = _lowest_half_resolution(img_resolution, num_fp16_res)
        cmap_dim = 0 if c_dim == 0 else (channels[4] if cmap_dim is None else cmap_dim)

        shared: dict[str, Any] = {"img_channels": img_channels, "architecture": architecture, "conv_clamp": conv_clamp}
        num_layers = 0
        for res in self.block_resolutions:
            block = DiscriminatorBlock(
                channels[res] if res < img_resolution else 0,
                channels[res],
                channels[res // 2],
                resolution=res,
                first_layer_idx=num_layers,
                use_fp16=res >= fp16_resolution,
                **block_kwargs,
                **shared,
            )
            setattr(self, f"b{res}", block)
            num_layers += block.num_layers
        if c_dim > 0:
            self.mapping = MappingNetwork(
                z_dim=0, c_dim=c_dim, w_dim=cmap_dim, num_ws=None, w_avg_beta=None, **mapping_kwargs
            )
        self.b4 = DiscriminatorEpilogue(channels[4], cmap_dim=cmap_dim, resolution=4, **epilogue_kwargs, **shared)

    def forward(self, img: torch.Tensor, c: torch.Tensor | None, **block_kwargs: Any) -> torch.Tensor:
        """Logits ``[N, 1]`` of images ``[N, img_channels, R, R]`` in [-1, 1] with labels ``[N, c_dim]``.

        Raises:
            ValueError: ``img`` or ``c`` has a wrong shape.
        """
        expected = (self.img_channels, self.img_resolution, self.img_resolution)
        if img.ndim != 4 or img.shape[1:] != expected or not img.is_floating_point():
            shape = ", ".join(map(str, expected))
            raise ValueError(f"img must be floating point [N, {shape}], got {img.dtype} {list(img.shape)}")
        features: torch.Tensor | None = None
        rest: torch.Tensor | None = img
        for res in self.block_resolutions:
            features, rest = getattr(self, f"b{res}")(features, rest, **block_kwargs)
        cmap = self.mapping(None, _checked("labels c", c, self.c_dim, num=img.shape[0])) if self.c_dim > 0 else None
        return self.b4(features, rest, cmap)
