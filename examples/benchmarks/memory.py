"""Memory that a fit and a pass of scores take beyond a memory-mapped file (Linux).

    python examples/benchmarks/memory.py [--gigabytes 2]

Writes random tables of float32 and float64, fits one epoch of the detector on each from an
``np.memmap`` and scores all rows, while a thread samples the anonymous memory of the process
(RssAnon in /proc/self/status): the part that the kernel cannot drop, unlike the mapped file.
"""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from datasets import argument_parser

from sklearn_ssvae import SSVAEAnomalyDetector


def anonymous_megabytes():
    """Anonymous resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("This machine's /proc/self/status has no RssAnon.")


class PeakGrowth:
    """Largest growth of the anonymous memory while a block runs."""

    def __enter__(self):
        self.before = self.peak = anonymous_megabytes()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def _sample(self):
        while not self.done.wait(0.01):
            self.peak = max(self.peak, anonymous_megabytes())

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()
        self.megabytes = self.peak - self.before


def write_table(path, dtype, n_rows, n_columns):
    """Write a random table block by block."""
    table = np.memmap(path, dtype=dtype, mode="w+", shape=(n_rows, n_columns))
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 65536):
        block = table[start : start + 65536]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32)
    table.flush()


def main():
    parser = argument_parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--anomaly-score", default="log_prob")
    args = parser.parse_args()
    # Loads what a first fit loads, so that the figures are the data's alone.
    small = np.random.default_rng(0).standard_normal((100, args.columns))
    SSVAEAnomalyDetector(max_epochs=1).fit(small).score_samples(small)
    for dtype in (np.float32, np.float64):
        n_rows = int(args.gigabytes * 2**30 / np.dtype(dtype).itemsize / args.columns)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table"
            write_table(path, dtype, n_rows, args.columns)
            X = np.memmap(path, dtype=dtype, mode="r", shape=(n_rows, args.columns))
            start = time.perf_counter()
            with PeakGrowth() as fit:
                det = SSVAEAnomalyDetector(
                    hidden_layer_sizes=(64, 64),
                    max_epochs=1,
                    batch_size=4096,
                    anomaly_score=args.anomaly_score,
                ).fit(X)
            with PeakGrowth() as score:
                det.score_samples(X)
            print(
                f"{np.dtype(dtype).name}: {X.nbytes / 2**20:.0f} MB, {n_rows} rows; fit "
                f"grows by {fit.megabytes:.0f} MB, score_samples by "
                f"{score.megabytes:.0f} MB ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )


if __name__ == "__main__":
    main()
