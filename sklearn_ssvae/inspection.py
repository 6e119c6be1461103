"""Pictures of what a model has learned."""

import numpy as np
from scipy.stats import norm
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

__all__ = ["GenerationGridDisplay"]


class GenerationGridDisplay:
    """Images decoded over a plane of the latent space, one panel for each class.

    Figures 2 and 3 of Berkhahn et al. (2019), arXiv:1908.03015: within a panel the class
    stays and the style changes. Make it with `from_estimator`.

    Parameters
    ----------
    images : ndarray of shape (n_classes, n_steps, n_steps, height, width[, channels])
        Decoded images; the second axis runs from the largest latent value down.
    classes : ndarray of shape (n_classes,) or None
        The class of each panel; None for a model without classes, which has one panel.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, once drawn.
    axes_ : ndarray of matplotlib Axes of shape (n_classes,)
        The panels.

    See Also
    --------
    SSVAEClassifier.sample : Rows of a chosen class and style.
    """

    def __init__(self, *, images, classes):
        self.images = images
        self.classes = classes

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        classes=None,
        n_steps=10,
        dims=(0, 1),
        extent=0.95,
        image_shape=None,
        ax=None,
        **imshow_params,
    ):
        """Decode a grid of latent vectors with each class and draw it.

        Parameters
        ----------
        estimator : fitted SSVAEClassifier or SSVAEAnomalyDetector
            Trained on images.
        classes : array-like, default=None
            The classes to draw; by default all that the model generates. With several
            factors rows of classes, which have to be named.
        n_steps : int, default=10
            Steps along each of the two latent dimensions.
        dims : tuple of two int, default=(0, 1)
            The latent dimensions that vary; in the others z is the mean of its prior. With
            ``latent_dim=1`` the second is not used.
        extent : float, default=0.95
            Central share of the prior, that of the panel's class if it has one for each,
            that the grid spans, in (0, 1). Steps are equal in probability: quantiles of
            the normal.
        image_shape : tuple of int, default=None
            Height and width, and channels if there are three. By default the shape of the
            rows, or the estimator's `input_shape`.
        ax : array of matplotlib Axes, default=None
            One for each class; by default a new figure.
        **imshow_params
            Passed to ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        display : GenerationGridDisplay
            With the images and the axes that show them.

        Raises
        ------
        ValueError
            If the rows are not images and no `image_shape` says how to read them, if there
            are several factors and no `classes`, if `dims` or `extent` are out of their
            range, or if there are fewer axes than panels.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        n_latent = len(estimator.get_feature_names_out())
        if not 0 < extent < 1:
            raise ValueError(f"extent must be in (0, 1). Got {extent!r}.")
        if not all(-n_latent <= dim < n_latent for dim in dims[: 1 + (n_latent > 1)]):
            raise ValueError(f"dims={dims!r} must be two of the {n_latent} latent dimensions.")
        steps = norm.ppf(np.linspace(0.5 - extent / 2, 0.5 + extent / 2, n_steps))
        across, down = np.meshgrid(steps, steps[::-1])
        z = np.zeros((n_steps * n_steps, n_latent))
        z[:, dims[0]] = across.ravel()
        if n_latent > 1:
            z[:, dims[1]] = down.ravel()
        known = estimator._generative_classes()
        if classes is None and len(known) > 1:
            raise ValueError(
                f"The model generates {len(known)} factors: name the panels to draw, such "
                f"as classes={[[of_factor[0].item() for of_factor in known]]!r}."
            )
        if classes is None and known:
            classes = known[0]
        panels = [None] if classes is None else list(classes)
        rows = np.stack(
            [estimator.sample(y=label, z=z, observation_noise=False)[0] for label in panels]
        )
        given = (image_shape, estimator.input_shape, rows.shape[2:])
        shape = tuple(next(value for value in given if value is not None))
        if len(shape) not in (2, 3) or np.prod(shape) != np.prod(rows.shape[2:]):
            raise ValueError(
                f"Rows of shape {rows.shape[2:]} can't be drawn as images of shape {shape}. "
                "Pass image_shape=(height, width)."
            )
        display = cls(
            images=rows.reshape(len(panels), n_steps, n_steps, *shape),
            classes=None if classes is None else np.asarray(panels),
        )
        return display.plot(ax=ax, **imshow_params)

    def plot(self, *, ax=None, **imshow_params):
        """Draw the panels.

        Parameters
        ----------
        ax : array of matplotlib Axes, default=None
            One for each class; by default a new figure.
        **imshow_params
            Passed to ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        display : GenerationGridDisplay
            This object, with `figure_` and `axes_`.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        import matplotlib.pyplot as plt

        n_panels = len(self.images)
        if ax is None:
            n_columns = min(n_panels, 5)
            n_rows = -(-n_panels // n_columns)
            _, ax = plt.subplots(
                n_rows,
                n_columns,
                figsize=(2.2 * n_columns, 2.4 * n_rows),
                squeeze=False,
                layout="constrained",
            )
        axes = np.atleast_1d(ax).ravel()
        if len(axes) < n_panels:
            raise ValueError(f"ax holds {len(axes)} axes for {n_panels} panels.")
        params = {"cmap": "gray_r", "interpolation": "nearest", **imshow_params}
        for panel, images in enumerate(self.images):
            # Rows of images side by side: (steps, height) by (steps, width).
            tiles = np.concatenate(np.concatenate(images, axis=1), axis=1)
            axes[panel].imshow(tiles, **params)
            if self.classes is not None:
                axes[panel].set_title(str(self.classes[panel]), fontsize=9)
        for axis in axes:
            axis.set_axis_off()
        self.axes_ = axes[:n_panels]
        self.figure_ = axes[0].figure
        return self
