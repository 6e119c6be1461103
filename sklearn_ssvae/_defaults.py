"""What "auto" means: parameters that follow the rows, the network or the prior."""

import math

import numpy as np

from ._augmentation import reach, shift_images, shift_series
from ._priors import PRIORS
from .networks import NETWORKS

# The weight of the cross-entropy, per feature and, in nats of the ELBO, per row at least:
# the density of a few columns would outvote the labels. Many labels may outvote the clusters:
# the least grows with the square of how many a class has, from that of five, to a bound.
MIN_ALPHA = 0.3
MIN_LABEL_NATS = 12.0
MAX_LABEL_NATS = 200.0
FEW_LABELS_OF_CLASS = 5

# The prior knows the classes if there are so many rows: the clusters of fewer are seldom
# the classes.
MIN_CLASS_CONDITIONAL_ROWS = 100

# The weight of the consistency of pi. That of a recurrent network weighs about as much as the
# labels: its few weights, used at every step, are all busy with the reconstruction.
CONSISTENCY = 8.0
CONSISTENCY_RECURRENT = 300.0

# The weight of the KL divergence: under a prior that knows the classes, more than that of
# the bound lets late evidence weigh against the first clusters.
BETA = 1.0
BETA_CLASS_CONDITIONAL = 2.0

# The classifier's probabilities never lose the order of classes altogether.
MAX_SHRINKAGE = 0.99

# The share of labeled rows in a batch grows with the root of their number, from that of a
# few: a hundred labels that are seen too often are learned by heart, a thousand serve.
MIN_LABELED_FRACTION = 0.1
MAX_LABELED_FRACTION = 0.3
FEW_LABELS = 100

# The step size; a recurrent network has few weights, each used at every step.
LEARNING_RATE = 1e-3
LEARNING_RATE_RECURRENT = 3e-3

# The step size begins to fall after so many batches, within these bounds of epochs: beyond,
# a few labels are known by heart and classes drift with the density. A layer narrower than
# this changes less by each step, and needs as many times more of them.
DECAY_BATCHES = 1000
DECAY_EPOCHS = (2, 13)
DECAY_WIDTH = 512

# Under a prior that knows the classes, the weight of the KL divergence rises for so much of
# the time before the decay of a wide network: with all of it at once, what an untrained
# encoder makes of the rows would decide their classes.
KL_WARMUP_SHARE = 0.5

# Fewest and most epochs in which a recurrent network makes its batches, and those before the
# decay: few series make one or two an epoch.
RECURRENT_EPOCHS = (10, 300)


def unless_auto(value, default, *args):
    """Return a parameter's value, or ``default(*args)`` where it is "auto"."""
    return default(*args) if isinstance(value, str) and value == "auto" else value


def is_recurrent(module):
    """Whether the encoder is the network "recurrent"."""
    return isinstance(module.encoder, NETWORKS["recurrent"][0])


def alpha_for(n_features, labels_per_class):
    """Choose the weight of the cross-entropy."""
    nats = MIN_LABEL_NATS * (labels_per_class / FEW_LABELS_OF_CLASS) ** 2
    return max(MIN_ALPHA, float(np.clip(nats, MIN_LABEL_NATS, MAX_LABEL_NATS)) / n_features)


def _knows_classes(module):
    return isinstance(module.prior, PRIORS["class_conditional"])


def beta_for(module):
    """Choose the weight of the KL divergence."""
    return BETA_CLASS_CONDITIONAL if _knows_classes(module) else BETA


def prior_for(n_samples, network, clustered):
    """Choose the prior for so many rows, whose classes may be clusters or not."""
    few = n_samples < MIN_CLASS_CONDITIONAL_ROWS
    normal = few or network == "recurrent" or not clustered
    return "normal" if normal else "class_conditional"


def consistency_for(module, clustered):
    """Choose the weight of the consistency of pi, for classes that may be clusters or not."""
    if not clustered or module.decoder is None:
        return 0.0
    return CONSISTENCY_RECURRENT if is_recurrent(module) else CONSISTENCY


def decoder_label_for(prior):
    """Let the decoder read the classes, unless z has them by its prior."""
    return "predicted" if prior == "normal" else None


def augmentation_for(module):
    """Choose a change that leaves the class of an image or a series as it is."""
    if module.sees_images and all(map(reach, module.input_shape[:2])):
        return shift_images
    if is_recurrent(module) and reach(module.input_shape[0]):
        return shift_series
    return None


def accuracy_for(right, agree, told, n_classes):
    """Choose the accuracy of pi that its labels vouch for.

    Near a label pi was taught to be right: where it is so more often than the other labels
    tell, the more counts as far as these are better than chance. So does the part of its
    errors there by which any neighbors differ.

    Parameters
    ----------
    right : float
        Share of rows next to labeled ones whose pi is largest for the class of the label.
    agree : float
        Share of unlabeled rows whose pi is largest for the class of their nearest one.
    told : float
        Share of labels that spreading the others finds again.
    n_classes : int
        How many classes there are.

    Returns
    -------
    accuracy : float
        In [0, 1].
    """
    chance = 1 / n_classes
    weight = max(told - chance, 0) / (1 - chance)
    among_neighbors = right / max(agree, right) if right else right
    near = weight * among_neighbors + (1 - weight) * right
    return weight * near + (1 - weight) * min(told, right)


def shrinkage_for(confidence, accuracy, n_labels, n_classes):
    """Choose how much of the classes' shares is mixed into pi.

    So much that its mean confidence is the accuracy that the labels vouch for, by Laplace's
    rule of succession, where all classes are as frequent.

    Parameters
    ----------
    confidence : float
        Mean of the largest pi of a row.
    accuracy : float
        The accuracy that the labels vouch for.
    n_labels, n_classes : int
        How many labels there are, and classes.

    Returns
    -------
    shrinkage : float
        In [0, 0.99].
    """
    chance = 1 / n_classes
    expected = (n_labels * accuracy + 1) / (n_labels + 2)
    excess = confidence - max(expected, chance)
    return min(excess / (confidence - chance), MAX_SHRINKAGE) if excess > 0 else 0.0


def labeled_fraction_for(n_labeled):
    """Choose the share of labeled rows in a batch."""
    share = MIN_LABELED_FRACTION * math.sqrt(n_labeled / FEW_LABELS)
    return float(np.clip(share, MIN_LABELED_FRACTION, MAX_LABELED_FRACTION))


def learning_rate_for(module):
    """Choose the step size of the optimizer."""
    return LEARNING_RATE_RECURRENT if is_recurrent(module) else LEARNING_RATE


def batch_size_for(n_samples, largest):
    """Choose the number of rows of a batch."""
    return int(np.clip(n_samples // 20, 32, largest))


def epochs_for(n_wanted, n_batches, bounds):
    """Count the epochs that make at least n_wanted batches, within the bounds."""
    return int(np.clip(math.ceil(n_wanted / n_batches), *bounds))


def decay_after_for(module, n_batches, width):
    """Choose the number of batches after which the step size falls.

    Parameters
    ----------
    module : SSVAE
        The module to train.
    n_batches : int
        Batches of an epoch.
    width : int
        Units of the widest hidden layer.
    """
    bounds, slowness = DECAY_EPOCHS, max(1.0, DECAY_WIDTH / width)
    if is_recurrent(module):
        bounds, slowness = RECURRENT_EPOCHS, 1.0
    return math.ceil(n_batches * epochs_for(DECAY_BATCHES, n_batches, bounds) * slowness)


def kl_warmup_for(module, n_batches):
    """Choose over how many batches, n_batches an epoch, the KL divergence gains weight."""
    if not _knows_classes(module):
        return None
    return math.ceil(KL_WARMUP_SHARE * decay_after_for(module, n_batches, DECAY_WIDTH))
