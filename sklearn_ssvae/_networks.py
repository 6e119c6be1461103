"""Encoder and decoder pairs.

The contract of a pair:

- ``Encoder(input_shape, hidden_layer_sizes)`` has the attribute ``n_out`` and maps
  ``(n, *input_shape)`` to ``(n, n_out)``.
- ``Decoder(n_in, output_shape, n_params, hidden_layer_sizes)`` maps ``(n, n_in)`` to
  ``(n, n_params, *output_shape)``. Its attribute ``input_layer`` is the ``nn.Linear``
  that reads the input, so that columns for new classes can be added to trained weights.
"""

import itertools
import math

from torch import nn


def _dense_stack(sizes):
    """Fully connected layers with a ReLU after each."""
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers)


class DenseEncoder(nn.Module):
    """Fully connected encoder: ``(n, *input_shape)`` to ``(n, n_out)``."""

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


NETWORKS = {"dense": (DenseEncoder, DenseDecoder)}
