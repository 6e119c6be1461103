"""Encoder and decoder pairs.

The contract of a pair, also of a user's own:

- ``Encoder(input_shape, hidden_layer_sizes)`` has the attribute ``n_out`` and maps
  ``(n, *input_shape)`` to ``(n, n_out)``. One with a latent vector at each time step has
  the attribute ``n_steps`` as well and maps to ``(n, n_steps, n_out)``.
- ``Decoder(n_in, output_shape, n_params, hidden_layer_sizes)`` maps ``(n, n_in)``, or
  ``(n, n_steps, n_in)``, to ``(n, n_params, *output_shape)``. Its attribute
  ``input_layer`` is the ``nn.Linear`` that reads the input, so that columns for new
  classes can be added to trained weights.

A fitted model computes in float64, which is slow for convolutions. Those in an
``nn.Sequential`` of the name ``convolutions``, called as a whole, are left in float32.
"""

import itertools
import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "Dropout",
    "RecurrentDecoder",
    "RecurrentEncoder",
]


class Dropout(nn.Module):
    """Dropout that draws from the estimator's own generator.

    torch's draws from the global one, which threads share. Use this in a network of your
    own as well.

    Parameters
    ----------
    p : float
        Probability of a feature to be set to zero, in [0, 1).
    """

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p
        self.generator = None  # set for the duration of a training step

    def forward(self, x):
        """Drop features while training, return x otherwise."""
        if not self.training:
            return x
        keep = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        keep.bernoulli_(1 - self.p, generator=self.generator)
        return x * keep / (1 - self.p)


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization over all axes but the second; a lone value has no variance."""

    def _check_input_dim(self, x):
        pass

    def forward(self, x):
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
        return super().forward(x)


def _dense_stack(sizes):
    """Fully connected layers with a ReLU after each."""
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers)


class DenseEncoder(nn.Module):
    """Fully connected encoder: ``(n, *input_shape)`` to ``(n, n_out)``.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of a row; flattened.
    hidden_layer_sizes : tuple of int
        Widths of the layers, bottom to top.
    """

    def __init__(self, input_shape, hidden_layer_sizes):
        super().__init__()
        sizes = [math.prod(input_shape), *hidden_layer_sizes]
        self.layers = _dense_stack(sizes)
        self.n_out = sizes[-1]

    def forward(self, x):
        """Compute the topmost features."""
        return self.layers(x.flatten(1))


class DenseDecoder(nn.Module):
    """Fully connected decoder, the encoder's layers in reverse.

    Maps ``(n, n_in)`` to ``(n, n_params, *output_shape)``.

    Parameters
    ----------
    n_in : int
        Width of the input.
    output_shape : tuple of int
        Shape of a row.
    n_params : int
        Parameters of the likelihood for each feature.
    hidden_layer_sizes : tuple of int
        The encoder's.
    """

    def __init__(self, n_in, output_shape, n_params, hidden_layer_sizes):
        super().__init__()
        sizes = [*reversed(hidden_layer_sizes), n_params * math.prod(output_shape)]
        self.input_layer = nn.Linear(n_in, sizes[0])
        self.layers = nn.Sequential(
            nn.ReLU(), _dense_stack(sizes[:-1]), nn.Linear(sizes[-2], sizes[-1])
        )
        self.output_shape = (n_params, *output_shape)

    def forward(self, h):
        """Compute the parameters of the likelihood."""
        return self.layers(self.input_layer(h)).unflatten(1, self.output_shape)


def _image_shape(input_shape):
    """Height, width and channels of an image ``(h, w)`` or ``(h, w, c)``."""
    if len(input_shape) not in (2, 3):
        raise ValueError(
            "A convolutional network needs images, rows of shape (height, width) or "
            f"(height, width, channels), but each row has the shape {tuple(input_shape)}. "
            "Pass input_shape, for example input_shape=(28, 28) for 784 columns."
        )
    return (*input_shape, 1)[:3]


def _sizes(size, strides):
    """Heights and widths after each strided layer, the first one included."""
    sizes = [size]
    for stride in strides:
        sizes.append(tuple(-(-n // stride) for n in sizes[-1]))
    return sizes


def _normalized_stack(sizes, dropout):
    """Fully connected layers, each with batch normalization, ReLU and dropout."""
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), _BatchNorm(n_out), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers)


class ConvEncoder(nn.Module):
    """Convolutions, then fully connected layers: ``(n, h, w[, c])`` to ``(n, n_out)``.

    Parameters
    ----------
    input_shape : tuple of int
        Height and width, and channels if there are several.
    hidden_layer_sizes : tuple of int
        Widths of the fully connected layers between the convolutions and the heads.
    channels, strides : tuple of int
        Of the convolutions, bottom to top. Table 14 of the paper by default.
    kernel_size : int
        Odd.
    dropout : float
        Share of dropped features after each fully connected layer.
    """

    def __init__(
        self,
        input_shape,
        hidden_layer_sizes,
        *,
        channels=(64, 64, 64),
        strides=(1, 1, 2),
        kernel_size=3,
        dropout=0.5,
    ):
        super().__init__()
        *size, n_channels = _image_shape(input_shape)
        layers = []
        for (n_in, n_out), stride in zip(
            itertools.pairwise([n_channels, *channels]), strides, strict=True
        ):
            layers += [
                nn.Conv2d(n_in, n_out, kernel_size, stride, kernel_size // 2),
                _BatchNorm(n_out),
                nn.ReLU(),
            ]
        # Rows have the channels last, and convolutions are faster that way.
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        n_flat = channels[-1] * math.prod(_sizes(tuple(size), strides)[-1])
        self.layers = _normalized_stack([n_flat, *hidden_layer_sizes], dropout)
        self.image_shape = (*size, n_channels)
        self.n_out = hidden_layer_sizes[-1]

    def forward(self, x):
        """Compute the topmost features."""
        x = x.reshape(-1, *self.image_shape).permute(0, 3, 1, 2)
        return self.layers(self.convolutions(x).flatten(1))


class ConvDecoder(nn.Module):
    """Fully connected layers, then transposed convolutions.

    Maps ``(n, n_in)`` to ``(n, n_params, h, w[, c])``. The encoder's last fully connected
    layer has no counterpart here: the first layer reads pi and z and, with a single
    hidden size, makes the smallest map, as in Table 14 of the paper.

    Parameters
    ----------
    n_in : int
        Width of the input.
    output_shape : tuple of int
        Height and width, and channels if there are several.
    n_params : int
        Parameters of the likelihood for each feature.
    hidden_layer_sizes : tuple of int
        The encoder's.
    channels, strides : tuple of int
        Of the transposed convolutions in their own order, smallest map first.
    kernel_size, output_kernel_size : int
        Odd; the latter that of the last layer, which makes the output.
    dropout : float
        Share of dropped features after each fully connected layer.
    """

    def __init__(
        self,
        n_in,
        output_shape,
        n_params,
        hidden_layer_sizes,
        *,
        channels=(64, 64, 64),
        strides=(1, 1, 2),
        kernel_size=3,
        output_kernel_size=1,
        dropout=0.5,
    ):
        super().__init__()
        *size, n_channels = _image_shape(output_shape)
        maps = _sizes(tuple(size), reversed(strides))[::-1]
        n_flat = channels[0] * math.prod(maps[0])
        sizes = [*reversed(hidden_layer_sizes[:-1]), n_flat]
        self.input_layer = nn.Linear(n_in, sizes[0])
        self.layers = nn.Sequential(
            _BatchNorm(sizes[0]),
            nn.ReLU(),
            Dropout(dropout),
            _normalized_stack(sizes, dropout),
            nn.Unflatten(1, (channels[0], *maps[0])),
        )
        layers = []
        pairs = itertools.pairwise([channels[0], *channels])
        for (c_in, c_out), stride, (small, large) in zip(
            pairs, strides, itertools.pairwise(maps), strict=True
        ):
            # What a stride leaves open: odd and even sizes shrink to the same map.
            rest = tuple(n - (stride * (m - 1) + 1) for m, n in zip(small, large))
            layers += [
                nn.ConvTranspose2d(
                    c_in, c_out, kernel_size, stride, kernel_size // 2, output_padding=rest
                ),
                _BatchNorm(c_out),
                nn.ReLU(),
            ]
        layers.append(
            nn.ConvTranspose2d(
                channels[-1],
                n_params * n_channels,
                output_kernel_size,
                padding=output_kernel_size // 2,
            )
        )
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.output_shape = (n_params, *output_shape)

    def forward(self, h):
        """Compute the parameters of the likelihood."""
        maps = self.convolutions(self.layers(self.input_layer(h)))
        n_params = self.output_shape[0]
        # Channels last, as in the rows.
        maps = maps.unflatten(1, (n_params, -1)).movedim(2, -1)
        return maps.reshape(-1, *self.output_shape)


def _series_shape(input_shape):
    """Time steps and features of a series ``(time, features)`` or ``(time,)``."""
    if len(input_shape) not in (1, 2):
        raise ValueError(
            "A recurrent network needs series, rows of shape (time, features), but each "
            f"row has the shape {tuple(input_shape)}. Pass input_shape, for example "
            "input_shape=(128, 6) for 768 columns."
        )
    return (*input_shape, 1)[:2]


class _LSTM(nn.LSTM):
    """An LSTM that returns its output at each step and nothing else."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out, batch_first=True)

    def forward(self, x):
        if x.device.type != "cpu":
            return super().forward(x)[0]
        # A processor without units for bfloat16 has no LSTM in it, only an error.
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight_ih_l0.dtype))[0]


def _recurrent_stack(n_in, sizes, recurrent):
    """Layers over the features of each step; the one at `recurrent` is an LSTM."""
    layers = []
    for index, n_out in enumerate(sizes):
        layers += (
            [_LSTM(n_in, n_out)] if index == recurrent else [nn.Linear(n_in, n_out), nn.ReLU()]
        )
        n_in = n_out
    return layers


class RecurrentEncoder(nn.Module):
    """Series encoder: ``(n, time, features)`` to ``(n, time, n_out)``.

    The middle one of the `hidden_layer_sizes` is an LSTM, the others are fully connected
    along the features with ReLU: ``(40, 40, 30)`` is Table 15 of the paper.

    Parameters
    ----------
    input_shape : tuple of int
        Time steps and features.
    hidden_layer_sizes : tuple of int
        Widths of the layers, bottom to top.
    """

    def __init__(self, input_shape, hidden_layer_sizes):
        super().__init__()
        self.series_shape = _series_shape(input_shape)
        self.n_steps, n_features = self.series_shape
        middle = len(hidden_layer_sizes) // 2
        self.layers = nn.Sequential(*_recurrent_stack(n_features, hidden_layer_sizes, middle))
        self.n_out = hidden_layer_sizes[-1]

    def forward(self, x):
        """Compute the topmost features of each step."""
        return self.layers(x.reshape(-1, *self.series_shape))


class RecurrentDecoder(nn.Module):
    """Series decoder, the encoder's layers in reverse.

    Maps ``(n, time, n_in)`` to ``(n, n_params, time, features)``. An LSTM that would come
    first has a fully connected layer of its width before it.

    Parameters
    ----------
    n_in : int
        Width of the input at each time step.
    output_shape : tuple of int
        Shape of a row.
    n_params : int
        Parameters of the likelihood for each feature.
    hidden_layer_sizes : tuple of int
        The encoder's.
    """

    def __init__(self, n_in, output_shape, n_params, hidden_layer_sizes):
        super().__init__()
        _, n_features = _series_shape(output_shape)
        sizes = hidden_layer_sizes[::-1]
        middle = len(sizes) - 1 - len(sizes) // 2
        self.input_layer = nn.Linear(n_in, sizes[0])
        rest = sizes if middle == 0 else sizes[1:]
        self.layers = nn.Sequential(
            nn.ReLU(),
            *_recurrent_stack(sizes[0], rest, max(middle - 1, 0)),
            nn.Linear(sizes[-1], n_params * n_features),
        )
        self.output_shape = (n_params, *output_shape)

    def forward(self, h):
        """Compute the parameters of the likelihood."""
        params = self.layers(self.input_layer(h))
        params = params.unflatten(2, (self.output_shape[0], -1)).movedim(2, 1)
        return params.reshape(-1, *self.output_shape)


# Table 16 of the paper.
_SMALL_NORB = {"strides": (2, 2, 2, 2), "kernel_size": 7}

NETWORKS = {
    "dense": (DenseEncoder, DenseDecoder),
    "conv": (ConvEncoder, ConvDecoder),
    "recurrent": (RecurrentEncoder, RecurrentDecoder),
    "small_norb": (
        partial(ConvEncoder, channels=(32, 32, 64, 64), **_SMALL_NORB),
        partial(ConvDecoder, channels=(64, 64, 32, 32), output_kernel_size=7, **_SMALL_NORB),
    ),
}
