"""Batches that mix labeled and unlabeled rows, fetched whole."""

import math

import numpy as np
import torch
from torch.utils.data import Dataset


class Rows(Dataset):
    """Some rows of an array with their label codes.

    The array may be a memory map: nothing is read or cast before a batch is fetched.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Any floating dtype.
    codes : ndarray of int32 of shape (n_rows, n_heads)
        Class of each row of the set in each head, -1 where it has no label.
    index : ndarray of int of shape (n_rows,), default=None
        The rows of `X` that make the set; by default all.
    """

    def __init__(self, X, codes, index=None):
        self.X = X
        self.codes = codes
        self.index = index

    def __len__(self):
        return len(self.codes)

    def __getitem__(self, rows):
        at = rows if self.index is None else self.index[rows]
        return self.X[at], self.codes[rows]

    @property
    def labeled(self):
        """Which rows have a label in any head, ndarray of bool of shape (n_rows,)."""
        return (self.codes >= 0).any(axis=1)

    @property
    def strata(self):
        """A number for each row's first label, -1 without one: the strata of a split."""
        n_heads = self.codes.shape[1]
        strata = np.full(len(self.codes), -1)
        for head in reversed(range(n_heads)):
            known = self.codes[:, head] >= 0
            strata[known] = self.codes[known, head] * n_heads + head
        return strata

    def subset(self, rows):
        """Return the set of some of these rows."""
        index = rows if self.index is None else self.index[rows]
        return Rows(self.X, self.codes[rows], index)

    def fetch(self, rows):
        """Return a batch as tensors: x in the array's own dtype, codes as int64."""
        x, codes = self[rows]
        return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(codes).long()


def _shuffled_passes(strata, generator):
    """Yield the rows of all strata again and again, shuffled, each spread evenly."""
    order = slice(None)
    if len(strata) > 1:
        place = [(np.arange(len(rows)) + 0.5) / len(rows) for rows in strata]
        order = np.argsort(np.concatenate(place), kind="stable")
    while True:
        shuffled = [
            rows[torch.randperm(len(rows), generator=generator).numpy()] for rows in strata
        ]
        yield np.concatenate(shuffled)[order]


def _take(passes, rest, n):
    """Take n rows from repeated passes; return them and what is left of the last pass."""
    while len(rest) < n:
        rest = np.concatenate([rest, next(passes)])
    return rest[:n], rest[n:]


class BalancedBatches:
    """Index batches with a fixed share of labeled rows; one iteration is one epoch.

    Where labeled rows are rarer than `labeled_fraction`, they are shuffled and repeated to
    make this share of every batch, while the unlabeled rows pass once. Otherwise all rows
    pass once, in their natural share, in batches of sizes that differ by one row at most.
    No batch exceeds `batch_size`.

    Parameters
    ----------
    labeled : ndarray of bool of shape (n_rows,)
        Which rows have a label.
    batch_size : int
        Rows in a batch, labeled and unlabeled together; at least two where labeled ones
        are repeated.
    labeled_fraction : float
        Smallest share of labeled rows in a batch, in (0, 1).
    generator : torch.Generator
        Source of the shuffles.

    Examples
    --------
    >>> import numpy as np, torch
    >>> labeled = np.arange(8) < 2
    >>> batches = BalancedBatches(labeled, 4, 0.5, torch.Generator().manual_seed(0))
    >>> [labeled[rows].sum().item() for rows in batches]
    [2, 2, 2]
    """

    def __init__(self, labeled, batch_size, labeled_fraction, generator):
        strata = [
            np.flatnonzero(rows).astype(np.int32 if len(labeled) < 2**31 else np.int64)
            for rows in (labeled, ~labeled)
            if rows.any()
        ]
        if len(strata) == 1 or labeled.mean() >= labeled_fraction:
            self.pools, self.shares = [strata], [batch_size]
        else:
            n_labeled = min(max(round(batch_size * labeled_fraction), 1), batch_size - 1)
            self.pools = [[rows] for rows in strata]
            self.shares = [max(n_labeled, 1), max(batch_size - n_labeled, 1)]
        self.sizes = [sum(map(len, pool)) for pool in self.pools]
        self.generator = generator

    def __len__(self):
        return max(math.ceil(size / share) for size, share in zip(self.sizes, self.shares))

    def __iter__(self):
        n_batches = len(self)
        streams = []
        for pool, size, share in zip(self.pools, self.sizes, self.shares):
            # The pool that sets the length is passed exactly once.
            exact = math.ceil(size / share) == n_batches
            total = size if exact else n_batches * share
            none = np.empty(0, dtype=pool[0].dtype)
            streams.append([_shuffled_passes(pool, self.generator), none, total])
        for batch in range(n_batches):
            parts = []
            for stream in streams:
                passes, rest, total = stream
                n = total * (batch + 1) // n_batches - total * batch // n_batches
                rows, stream[1] = _take(passes, rest, n)
                parts.append(rows)
            yield parts[0] if len(parts) == 1 else np.concatenate(parts)
