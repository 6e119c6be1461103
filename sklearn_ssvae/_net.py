"""The skorch net: balanced batches, the loss by terms, and a state made of arrays."""

import contextlib
import copy
import math
import threading
import warnings

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import get_len
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ._batching import BalancedBatches
from ._loss import SSVAELoss

# Widest product of two layers that one thread multiplies at least as fast as several.
SMALL_LAYER = 256 * 1024

DIVERGED = (
    "The training has diverged: lower learning_rate (a tenth is a good try), transform "
    "heavy-tailed columns (logarithm or QuantileTransformer), or clip gradients with "
    "callbacks=[skorch.callbacks.GradientNormClipping(1.0)]. The estimator is as it was "
    "before this call."
)

# Share of the newest weights in their average after n batches, AVERAGE_SHARE / (n + the
# same) but no less than this: a memory of the last tenth, of a thousand batches at most.
AVERAGE_SHARE = 10
MIN_AVERAGE_SHARE = 0.001

# Running averages of the optimizer below VANISHED are cleared every CLEAR_EVERY batches:
# far below what moves a weight, and a hundred batches later, 0.9 times as large in each,
# still a normal float32.
VANISHED = 1e-33
CLEAR_EVERY = 100

OPTIMIZERS = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    # The paper's: "RMSprop without decay and a momentum parameter of 0.9" is Keras' rho.
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9}),
}


def optimizer_params(optimizer, device):
    """Turn the optimizer's name or class into skorch's parameters."""
    optimizer_class, options = OPTIMIZERS.get(optimizer, (optimizer, {}))
    if not issubclass(optimizer_class, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must be one of {sorted(OPTIMIZERS)} or a subclass of "
            f"torch.optim.Optimizer. Got {optimizer!r}."
        )
    params = {f"optimizer__{name}": value for name, value in options.items()}
    if optimizer_class in (torch.optim.Adam, torch.optim.AdamW):
        params["optimizer__fused"] = torch.device(device).type in ("cpu", "cuda")
    return {"optimizer": optimizer_class, **params}


def resolve_device(device):
    """Turn "auto" into the best device there is, and refuse one that is missing.

    Parameters
    ----------
    device : str
        "auto" for cuda, mps or cpu in this order, or torch's name of a device.

    Returns
    -------
    device : str
        Name of a device that is present.

    Raises
    ------
    ValueError
        If the device is not present.
    """
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if n_cuda else "mps" if has_mps else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a device that torch knows. Pass "
            '"auto", "cpu", "cuda", "cuda:0" or "mps".'
        ) from error
    present = {"cpu": True, "cuda": n_cuda > (wanted.index or 0), "mps": has_mps}
    if not present.get(wanted.type, False):
        raise ValueError(
            f"device={device!r} is not present: torch sees {n_cuda} CUDA device(s) and "
            f'{"an" if has_mps else "no"} MPS device here. Pass device="auto" to use the '
            'best device there is, or device="cpu".'
        )
    return device


def warn_of_slow_precision(precision, device):
    """Warn where a training in bfloat16 takes longer than one in float32."""
    on_cpu = torch.device(device).type == "cpu"
    capability = torch.backends.cpu.get_cpu_capability()
    if precision == "bfloat16" and on_cpu and capability == "AVX2":
        warnings.warn(
            "This processor has no units for bfloat16: a training takes two to five times as "
            'long as with precision="float32", the default.',
            stacklevel=2,
        )


class _OneThread:
    """Hold torch to one thread.

    torch keeps a number for each thread of the process and one for threads to come. Where
    several threads are held at once, each has the first one's number afterwards.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._n_held = 0
        self._of_thread = threading.local()

    def __enter__(self):
        depth = self._of_thread.depth = getattr(self._of_thread, "depth", 0) + 1
        if depth == 1:
            # Asked in every thread: at first it takes over the number for threads to come.
            n_threads = torch.get_num_threads()
            with self._lock:
                if not self._n_held:
                    self._before = n_threads
                self._n_held += 1
                torch.set_num_threads(1)

    def __exit__(self, *error):
        self._of_thread.depth -= 1
        if not self._of_thread.depth:
            with self._lock:
                self._n_held -= 1
                torch.set_num_threads(self._before)


one_thread = _OneThread()


def thread_limit(module):
    """Hold torch to one thread while a small network is trained.

    Several threads wait for one another longer than they compute there; on contended
    cores a training step was measured 14 to 80 times slower. A convolution computes far
    more than its few weights tell.
    """
    largest = max(parameter.numel() for parameter in module.parameters())
    convolves = any(isinstance(layer, nn.Conv2d) for layer in module.modules())
    return contextlib.nullcontext() if largest > SMALL_LAYER or convolves else one_thread


class _Repeatable:
    """Let cuDNN add up gradients in one order, so that a seed means one model on a GPU.

    Trainings in several threads share the switch: the first one sets it, the last one puts
    it back.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._n_trainings = 0

    def __enter__(self):
        with self._lock:
            if not self._n_trainings:
                self._before = torch.backends.cudnn.deterministic
                torch.backends.cudnn.deterministic = True
            self._n_trainings += 1

    def __exit__(self, *error):
        with self._lock:
            self._n_trainings -= 1
            if not self._n_trainings:
                torch.backends.cudnn.deterministic = self._before


repeatable = _Repeatable()


class StopTraining(Exception):
    """A callback asked to end the training."""


def _raised_by_callback(error):
    """Whether a callback raised the error itself, which is how skorch's stop a training."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return isinstance(traceback.tb_frame.f_locals.get("self"), Callback)


class ProgressBar(Callback):
    """A bar over the epochs that shows the terms of the loss."""

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch")

    def on_epoch_end(self, net, **kwargs):
        """Show the last epoch's terms."""
        self.bar_.set_postfix(
            {
                name: f"{value:.4g}"
                for name, value in net.epoch_terms[-1].items()
                if not name.startswith("valid_") or name == "valid_loss"
            },
            refresh=False,
        )
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        self.bar_.close()


class StepDecay(Callback):
    """Let the step size fall as (T / n)^1.5 in batch n, past the net's `decay_after` T.

    However many batches follow, their steps add up to less than 2 T full ones: what a long
    training changes at last, it changes little.
    """

    def on_batch_begin(self, net, training, **kwargs):
        """Set the step size of the batch to come."""
        if not training:
            return
        net.n_batches += 1
        if net.decay_after is not None:
            share = (net.decay_after / max(net.decay_after, net.n_batches)) ** 1.5
            for group in net.optimizer_.param_groups:
                group["lr"] = share * group.setdefault("initial_lr", group["lr"])


class ClearVanished(Callback):
    """Set running averages of the optimizer that have all but vanished to zero.

    Where a gradient is zero for good, as that of a unit which no longer responds, they
    shrink into the denormal numbers and stay there. A processor computes with those so
    slowly that steps of the paper's dense network were measured to take 1.4 to 1.6 times
    as long after four epochs of MNIST, those of the default one 1.15 times.
    """

    def on_batch_end(self, net, training, **kwargs):
        """Clear them, every `CLEAR_EVERY` batches."""
        if training and net.n_batches % CLEAR_EVERY == 0:
            for state in net.optimizer_.state.values():
                for value in state.values():
                    if torch.is_tensor(value) and value.is_floating_point() and value.is_cpu:
                        value.masked_fill_(value.abs() < VANISHED, 0)


class WeightAverage(Callback):
    """Give the module the average of its weights at the end of a training.

    Attributes
    ----------
    own : dict
        The weights of the last batch, from which a further training goes on; empty if the
        module has them itself.
    """

    def __init__(self):
        self.own = {}

    def on_train_begin(self, net, **kwargs):
        """Go on from the weights of the last batch, with their average beside them."""
        state = net.module_.state_dict()
        # Tensors of another type are constants and counters.
        dtype = net.module_.dtype
        self._weights = [value for value in state.values() if value.dtype == dtype]
        self._averages = [value.clone() for value in self._weights] if net.average else []
        if self.own:
            net.module_.load_state_dict(self.own)
            self.own = {}

    def on_batch_end(self, net, training, **kwargs):
        """Move the average towards the weights."""
        if training and net.average:
            share = AVERAGE_SHARE / (net.n_batches - 1 + AVERAGE_SHARE)
            for average, weight in zip(self._averages, self._weights):
                average.lerp_(weight, max(MIN_AVERAGE_SHARE, share))

    def on_train_end(self, net, **kwargs):
        """Exchange weights and average."""
        if net.average:
            self.own = copy.deepcopy(net.module_.state_dict())
            for average, weight in zip(self._averages, self._weights):
                weight.copy_(average)
        del self._weights, self._averages


class _Batches:
    """The batches of an epoch, as tensors on the net's device."""

    def __init__(self, dataset, index_batches, device):
        self.dataset = dataset
        self.index_batches = index_batches
        self.device = device

    def __len__(self):
        return len(self.index_batches)

    def __iter__(self):
        for rows in self.index_batches:
            x, codes = self.dataset.fetch(rows)
            if self.device.type == "mps":
                x = x.float()
            yield x.to(self.device), codes.to(self.device)


class SSVAENet(NeuralNet):
    """A skorch net that trains an `SSVAE` on `Rows`.

    Parameters
    ----------
    module : SSVAE
        The model, trained in place.
    generator : torch.Generator
        Source of shuffles and noise, on the CPU whatever the device.
    labeled_fraction : float
        Share of labeled rows in a batch.
    augmentation : callable, default=None
        What else makes rows of the same class, see `SSVAE.forward`.
    average : bool, default=False
        Whether the module has the average of its weights after a training. Their own values
        are part of `training_state`.
    decay_after : int, default=None
        After how many batches the step size falls; None keeps it.
    kl_warmup : int, default=None
        Over how many batches the weight of the KL divergence rises from 0 in even steps;
        None has it as it is from the first on.
    precision : str, default="float32"
        One of `PRECISIONS`: what the layers compute in while they are trained.
    **kwargs
        Parameters of `skorch.NeuralNet`.
    """

    def __init__(
        self,
        module,
        generator,
        labeled_fraction=0.5,
        augmentation=None,
        average=False,
        decay_after=None,
        kl_warmup=None,
        precision="float32",
        **kwargs,
    ):
        kwargs = {"criterion": SSVAELoss, "train_split": None, **kwargs}
        super().__init__(module, **kwargs)
        self.generator = generator
        self.labeled_fraction = labeled_fraction
        self.augmentation = augmentation
        self.average = average
        self.decay_after = decay_after
        self.kl_warmup = kl_warmup
        self.precision = precision
        self.n_batches = 0
        self.epoch_terms = []
        self.weight_average = WeightAverage()
        self._cache = {}

    @property
    def _default_callbacks(self):
        bar = [("progress_bar", ProgressBar())] if self.verbose else []
        return [
            *bar,
            ("step_decay", StepDecay()),
            ("clear_vanished", ClearVanished()),
            ("weight_average", self.weight_average),
        ]

    def initialize_module(self):
        """Keep the module that was handed over."""
        self.module_ = self.module
        self.module_.precision = self.precision
        if torch.device(self.device).type == "mps":
            # No float64 there; the buffers are the only ones.
            self.module_.float()
        return self

    def get_iterator(self, dataset, training=False):
        """Batch a `Rows` data set: balanced for training, in order otherwise."""
        if training:
            batches = BalancedBatches(
                dataset.labeled, self.batch_size, self.labeled_fraction, self.generator
            )
        else:
            n_batches = math.ceil(len(dataset) / self.batch_size)
            batches = np.array_split(np.arange(len(dataset)), n_batches)
        return _Batches(dataset, batches, torch.device(self.device))

    def n_batches_of(self, dataset):
        """Batches of an epoch of training."""
        return len(self.get_iterator(dataset, training=True))

    def notify(self, method_name, **kwargs):
        """Call the callbacks; a KeyboardInterrupt of their own ends the training."""
        try:
            super().notify(method_name, **kwargs)
        except KeyboardInterrupt as error:
            if _raised_by_callback(error):
                raise StopTraining from None
            raise

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train on; unlike skorch's, let Ctrl-C through.

        Inside a grid search a swallowed KeyboardInterrupt would score a half-trained model.
        """
        self._cache.clear()
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y, **fit_params)
        except StopTraining:
            pass
        self._check_weights()
        self.notify("on_train_end", X=X, y=y)
        return self

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run one epoch and record the mean of every term of the loss.

        skorch keeps a record of each batch for ever; here it lasts until the epoch ends.
        """
        if iterator is None:
            return
        self._set_training(training)
        sums, n_rows, held_out = {}, 0, []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            size = get_len(batch[0])
            if training:
                for name, value in step["terms"].items():
                    sums[name] = sums.get(name, 0.0) + size * value
                n_rows += size
            else:
                held_out.append((*step["y_pred"], batch[1]))
            self.history.record_batch(f"{prefix}_loss", step["terms"]["loss"])
            self.history.record_batch(f"{prefix}_batch_size", size)
            self.notify("on_batch_end", batch=batch, training=training, **step)
        means = (
            {name: total / n_rows for name, total in sums.items()}
            if training
            else self._terms_of_all(held_out)
        )
        for name, value in means.items():
            self.history.record(f"{prefix}_{name}", value)
        self.history[-1]["batches"].clear()
        if training:
            self.epoch_terms.append(means)
        else:
            self.epoch_terms[-1].update(
                {f"{prefix}_{name}": value for name, value in means.items()}
            )

    @property
    def kl_share(self):
        """Share of the weight of the KL divergence that the batch in training has."""
        return min(1.0, self.n_batches / self.kl_warmup) if self.kl_warmup else 1.0

    def _terms(self, batch, generator):
        x, codes = batch
        training = self.module_.training
        perturb = training and self.criterion_.consistency > 0
        outputs = self.module_(
            x, generator, codes if training else None, perturb, self.augmentation
        )
        terms = self.criterion_.terms(*outputs, codes, self.kl_share if training else 1.0)
        values = torch.stack([value.detach() for value in terms.values()]).tolist()
        return outputs, terms["loss"], dict(zip(terms, values))

    def train_step_single(self, batch, **fit_params):
        """Compute the loss and its gradients; stop at a loss that is not finite."""
        outputs, loss, terms = self._terms(batch, self.generator)
        if not math.isfinite(terms["loss"]):
            raise ValueError(
                f"The loss is {terms['loss']} in epoch {len(self.history)}, batch "
                f"{len(self.history[-1]['batches'])}. {DIVERGED}"
            )
        loss.backward()
        return {"loss": loss, "y_pred": outputs, "terms": terms}

    def validation_step(self, batch, **fit_params):
        """Compute the loss at the posterior mean."""
        with torch.no_grad():
            (logits, log_prob, kl, _), loss, terms = self._terms(batch, None)
        if log_prob is not None:
            # All that the terms need of it, in the memory of a column.
            log_prob = log_prob.mean(dim=1, keepdim=True).expand_as(log_prob)
        return {"loss": loss, "y_pred": (logits, log_prob, kl), "terms": terms}

    def _terms_of_all(self, held_out):
        """Compute the terms of the held-out rows at once: few of a batch may have labels."""
        logits, log_prob, kl, codes = zip(*held_out)
        logits = {
            name: torch.cat([of_batch[name] for of_batch in logits]) for name in logits[0]
        }
        if log_prob[0] is None:
            log_prob = kl = None
        else:
            n_features = log_prob[0].shape[1]
            column = torch.cat([of_batch[:, :1] for of_batch in log_prob])
            log_prob, kl = column.expand(-1, n_features), torch.cat(kl)
        terms = self.criterion_.terms(logits, log_prob, kl, None, torch.cat(codes))
        return {name: value.item() for name, value in terms.items()}

    def _check_weights(self):
        """Raise if the last step left weights that are not finite."""
        for name, parameter in self.module_.named_parameters():
            if not torch.isfinite(parameter).all():
                raise ValueError(
                    f"The weights {name} are not finite at the end of epoch "
                    f"{len(self.history)}. {DIVERGED}"
                )

    @property
    def inference_module(self):
        """The model in float64, kept until the next training.

        In float32 the results of one row alone and of the same row in a batch differ by
        more than the 1e-7 that scikit-learn allows; here by the last bit, if at all.
        """
        if "module" not in self._cache:
            module = copy.deepcopy(self.module_)
            if torch.device(self.device).type == "mps":
                module = module.cpu()
            module = module.double().eval().requires_grad_(False)
            self._cache["module"] = _convolve_in_float32(_align(module))
        return self._cache["module"]

    def state_arrays(self):
        """Return all that training and inference need, as nested dicts of arrays."""
        return _to_arrays(
            {
                "weights": self.module_.state_dict(),
                "training": self.training_state(),
                "generator": self.generator.get_state(),
            }
        )

    def load_state_arrays(self, state):
        """Take over what `state_arrays` returned."""
        self._cache.clear()
        self.module_.load_state_dict(_to_tensors(state["weights"]))
        self.load_training_state(_to_tensors(state["training"]))
        self.generator.set_state(_to_tensors(state["generator"]))

    def training_state(self):
        """Return what a further training needs beside the module.

        The optimizer's name and its running averages by parameter, for how many batches it
        has trained, and the weights that the module's are an average of.
        """
        return {
            "optimizer": type(self.optimizer_).__name__,
            "running_averages": self.optimizer_.state_dict()["state"],
            "n_batches": self.n_batches,
            "unaveraged": self.weight_average.own,
        }

    def load_training_state(self, saved):
        """Take over what `training_state` returned, of its own optimizer or of another."""
        self.n_batches = saved["n_batches"]
        self.weight_average.own = saved["unaveraged"]
        if saved["optimizer"] == type(self.optimizer_).__name__:
            groups = self.optimizer_.state_dict()["param_groups"]
            self.optimizer_.load_state_dict(
                {"state": saved["running_averages"], "param_groups": groups}
            )
            # Arrays have lost the order in memory of weights that have the channels last,
            # and a fused step goes through both as they lie there.
            for weight, averages in self.optimizer_.state.items():
                for name, value in averages.items():
                    if torch.is_tensor(value) and value.ndim and value.shape == weight.shape:
                        averages[name] = torch.empty_like(weight).copy_(value)

    def drop_training_state(self):
        """Forget it, two thirds of a trained net and more."""
        self.optimizer_.state.clear()
        self.n_batches = 0
        self.weight_average.own = {}


def _align(module):
    """Fill the inputs of linear layers up to whole vectors of eight numbers.

    Rows of an odd width start at odd addresses, and their sums then depend on which row
    of the batch they are.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear and layer.in_features % 8:
            fill = (0, -layer.in_features % 8)
            layer.weight = nn.Parameter(F.pad(layer.weight, fill), requires_grad=False)
            layer.register_forward_pre_hook(
                lambda _, inputs, fill=fill: (F.pad(inputs[0], fill),)
            )
    return module


def _convolve_in_float32(module):
    """Let the stacks of convolutions compute in float32, four to nine times as fast.

    Their sums run over one image, whatever the others of the batch are.
    """
    for part in (module.encoder, module.decoder):
        stack = getattr(part, "convolutions", None)
        if isinstance(stack, nn.Sequential):
            stack.float()
            stack.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
            stack.register_forward_hook(lambda _, inputs, out: out.double())
    return module


def _to_arrays(value):
    if isinstance(value, dict):
        return {key: _to_arrays(item) for key, item in value.items()}
    return value.cpu().numpy().copy() if torch.is_tensor(value) else value


def _to_tensors(value):
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
