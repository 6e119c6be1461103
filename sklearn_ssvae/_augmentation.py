"""Changes of a row that leave its class as it is."""

import torch

# Images move by one place in so many of their height and width at most, series in time.
PLACES_A_SHIFT = 14


def reach(size):
    """Largest number of places by which an axis of this size is shifted."""
    return size // PLACES_A_SHIFT


def _shift(x, axis, generator):
    """Shift each row along an axis, by up to its reach; its edges are repeated."""
    size = x.shape[axis]
    furthest = reach(size)
    offset = torch.randint(-furthest, furthest + 1, (len(x), 1), generator=generator)
    source = (torch.arange(size) + offset).clamp(0, size - 1).to(x.device)
    shape = [len(x)] + [1] * (x.ndim - 1)
    shape[axis] = size
    return torch.take_along_dim(x, source.reshape(shape), dim=axis)


def shift_images(x, generator):
    """Shift each image by whole pixels along height and width.

    Both shifts are drawn uniformly from all within a fourteenth of the size; what comes in
    at an edge repeats it.

    Parameters
    ----------
    x : Tensor of shape (n, height, width) or (n, height, width, channels)
        Images.
    generator : torch.Generator on the CPU
        Source of the shifts.

    Returns
    -------
    shifted : Tensor of the same shape
        The images in their new places.
    """
    return _shift(_shift(x, 1, generator), 2, generator)


def shift_series(x, generator):
    """Shift each series by whole time steps, as `shift_images` does with the height.

    Parameters
    ----------
    x : Tensor of shape (n, time) or (n, time, features)
        Series.
    generator : torch.Generator on the CPU
        Source of the shifts.

    Returns
    -------
    shifted : Tensor of the same shape
        The series, begun earlier or later.
    """
    return _shift(x, 1, generator)
