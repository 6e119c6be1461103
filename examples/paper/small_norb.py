"""Small-NORB: the official files where they are at hand, a rendered stand-in otherwise.

    python examples/paper/small_norb.py --out FOLDER --preview small_norb.png

Small-NORB (LeCun, Huang and Bottou, CVPR 2004; https://cs.nyu.edu/~ylclab/data) holds
stereo pairs of 50 toys, ten of each of five categories, photographed from 9 elevations and
18 azimuths under 6 lightings: 48,600 pairs of 96 x 96 grey pixels. If its six files, as
they are or gzipped, are in the folder, `small_norb` reads them. Otherwise it renders pairs
of procedural shapes on the same grid of factors and keeps them there as
``small_norb_rendered.npz``. Figures from the rendered pairs are no figures of Small-NORB.
"""

import argparse
import gzip
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm

CATEGORIES = ("animal", "human", "airplane", "truck", "car")
ELEVATIONS = np.arange(30, 75, 5)
AZIMUTHS = np.arange(0, 360, 20)
N_LIGHTINGS = 6
N_INSTANCES = 10
TRAIN_INSTANCES = (4, 6, 7, 8, 9)
TEST_INSTANCES = (0, 1, 2, 3, 5)
SIZE = 96

_ARRAYS = ("images", "factors", "instances")
RENDERED_FILE = "small_norb_rendered.npz"
OFFICIAL_FILES = (
    "smallnorb-5x46789x9x18x6x2x96x96-training-{}.mat",
    "smallnorb-5x01235x9x18x6x2x96x96-testing-{}.mat",
)
OFFICIAL_PARTS = ("dat", "cat", "info")
MATRIX_TYPES = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}


# Official files


def _find(folder, name):
    """Return the path of a file or of its gzipped form, None if there is neither."""
    paths = [Path(folder) / name, Path(folder) / f"{name}.gz"]
    return next((path for path in paths if path.exists()), None)


def _read_matrix(path):
    """Read a file of LeCun's binary matrix format.

    A header of little-endian int32 (type, number of dimensions, their sizes; at least three
    sizes are there, and those beyond the number have no meaning), then the values with the
    last dimension fastest.
    """
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        header = np.frombuffer(file.read(8), "<i4")
        if len(header) < 2 or header[0] not in MATRIX_TYPES:
            raise ValueError(f"{path} is not a binary matrix of bytes or integers.")
        dtype, n_dims = MATRIX_TYPES[int(header[0])], int(header[1])
        shape = np.frombuffer(file.read(4 * max(n_dims, 3)), "<i4")[:n_dims]
        n_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        content = file.read(n_bytes)
    if len(content) < n_bytes:
        raise ValueError(f"{path} is cut short: {len(content)} of {n_bytes} bytes.")
    return np.frombuffer(content, dtype).reshape(shape)


def load_small_norb(folder):
    """Load the official training and test set, one after the other.

    Parameters
    ----------
    folder : path
        Holds the six files ``smallnorb-5x46789x9x18x6x2x96x96-training-{dat,cat,info}.mat``
        and ``smallnorb-5x01235x9x18x6x2x96x96-testing-{dat,cat,info}.mat``, each as it is
        or gzipped (``.mat.gz``).

    Returns
    -------
    images : ndarray of shape (48600, 96, 96, 2), uint8
        The left and the right eye as channels.
    factors : ndarray of shape (48600, 4), int64
        Category 0 to 4, elevation 0 to 8, azimuth 0 to 17 and lighting 0 to 5.
    instances : ndarray of shape (48600,), int64
        Which of the ten toys of its category, 0 to 9; see `train_rows`.

    Raises
    ------
    FileNotFoundError
        If one of the files is missing.
    ValueError
        If a file is not in the binary matrix format or cut short, or the three files of a
        set differ in length.
    """
    images, factors, instances = [], [], []
    for name in OFFICIAL_FILES:
        arrays = {}
        for part in OFFICIAL_PARTS:
            path = _find(folder, name.format(part))
            if path is None:
                raise FileNotFoundError(f"{name.format(part)}(.gz) is not in {folder}.")
            arrays[part] = _read_matrix(path)
        lengths = {part: len(array) for part, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The files {name.format('*')} differ in length: {lengths}.")
        images.append(arrays["dat"].transpose(0, 2, 3, 1))
        instance, elevation, azimuth, lighting = arrays["info"].T.astype(np.int64)
        # The file counts azimuths in steps of ten degrees and has every other one.
        columns = (arrays["cat"].astype(np.int64), elevation, azimuth // 2, lighting)
        factors.append(np.stack(columns, axis=1))
        instances.append(instance)
    return np.concatenate(images), np.concatenate(factors), np.concatenate(instances)


# Toys: each is a list of parts, and each part the image of a unit solid (ball, cube of half
# size 1, or cylinder along z of radius and half height 1) under an affine map.


# Points of the unit solids that show how far they reach, the same number of each.
_CUBE = np.array(list(product((-1.0, 1.0), repeat=3)))
_NETS = np.array(list(product((-1.0, -0.5, 0.0, 0.5, 1.0), repeat=3)))
_NETS = _NETS[np.abs(_NETS).max(1) == 1]
_ROUND = np.linalg.norm(_NETS[:, :2], axis=1, keepdims=True).clip(1)
_SURFACES = {
    "box": _NETS,
    "ball": _NETS / np.linalg.norm(_NETS, axis=1, keepdims=True),
    "cylinder": _NETS / np.hstack([_ROUND, _ROUND, np.ones_like(_ROUND)]),
}


class _Toy:
    """Collects the parts of a toy; x points ahead, y to its left and z up."""

    def __init__(self):
        self.kinds, self.centers, self.frames = [], [], []

    def add(self, kind, center, *half_sizes):
        """Add a part; each of its three half sizes is a number or a vector."""
        axes = zip(half_sizes, np.eye(3))
        frame = [size if np.ndim(size) else size * axis for size, axis in axes]
        self.kinds.append(kind)
        self.centers.append(np.array(center, dtype=float))
        self.frames.append(np.array(frame, dtype=float).T)

    def rod(self, start, end, radius, kind="cylinder"):
        """Add a part that is round about the line between two points."""
        start, end = np.array(start, dtype=float), np.array(end, dtype=float)
        along = (end - start) / 2
        across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
        across *= radius / np.linalg.norm(across)
        other = np.cross(along, across)
        other *= radius / np.linalg.norm(other)
        self.add(kind, (start + end) / 2, across, other, along)

    def limb(self, start, end, radius):
        """Add a cylinder with round ends."""
        self.rod(start, end, radius)
        for point in (start, end):
            self.add("ball", point, radius, radius, radius)

    def wheels(self, xs, y, radius, width):
        """Add wheels that stand on the ground, a pair at each x."""
        for x, side in product(xs, (-1, 1)):
            self.rod((x, side * (y - width), radius), (x, side * y, radius), radius)

    def parts(self):
        """Return the kinds, centers (n, 3) and frames (n, 3, 3) of the parts.

        The middle of the toy is moved to the origin, and its farthest point from there
        scaled to distance 1.
        """
        centers, frames = np.stack(self.centers), np.stack(self.frames)
        points = _surfaces(self.kinds, centers, frames).reshape(-1, 3)
        middle = (points.min(0) + points.max(0)) / 2
        scale = np.linalg.norm(points - middle, axis=1).max()
        return self.kinds, (centers - middle) / scale, frames / scale


def _surfaces(kinds, centers, frames):
    """Points on the surfaces of the parts, of shape (n, n_points, 3)."""
    solids = np.stack([_SURFACES[kind] for kind in kinds])
    return centers[:, None] + solids @ frames.transpose(0, 2, 1)


def _corners(centers, frames):
    """Corners of the boxes around the parts, of shape (n, 8, 3)."""
    return centers[:, None] + _CUBE @ frames.transpose(0, 2, 1)


def _vector(x, y, z):
    return np.array((x, y, z), dtype=float)


def _animal(rng):
    toy, u = _Toy(), rng.uniform
    length, girth, leg, thick = u(0.6, 0.9), u(0.27, 0.42), u(0.4, 0.8), u(0.09, 0.15)
    z = leg + 0.6 * girth
    toy.add("ball", (0, 0, z), length, girth, girth * u(0.9, 1.1))
    toy.add("ball", (0.5 * length, 0, z + 0.1 * girth), 0.45 * length, girth, 1.05 * girth)
    for x, side in product((-0.62, 0.62), (-1, 1)):
        swing = u(-0.15, 0.15)
        y = side * 0.6 * girth
        toy.limb((x * length, y, z), (x * length + swing, 1.1 * y, thick), thick)
    neck, slope = u(0.1, 0.7), u(0.5, 1.2)
    base = _vector(0.75 * length, 0, z + 0.3 * girth)
    head = base + neck * _vector(np.cos(slope), 0, np.sin(slope))
    skull = u(0.17, 0.28)
    toy.limb(base, head, u(0.55, 0.8) * skull)
    toy.add("ball", head, 1.1 * skull, 0.9 * skull, skull)
    snout = head + skull * _vector(u(0.9, 1.5), 0, u(-0.6, -0.2))
    toy.rod(head, snout + (snout - head) * 0.3, 0.6 * skull, "ball")
    ear, spread = u(0.1, 0.25), u(0.3, 0.9)
    style = rng.choice(["ears", "horns", "trunk"], p=[0.5, 0.3, 0.2])
    for side in (-1, 1):
        root = head + skull * _vector(-0.2, 0.5 * side, 0.7)
        tip = root + ear * _vector(-0.2, side * spread, 1.0)
        if style == "trunk":
            middle = head + skull * _vector(-0.3, side, 0.1)
            toy.add("ball", middle, 0.05, 0.13 + ear / 2, 0.18 + ear / 2)
        else:
            toy.rod(root, tip + (tip - root) * (style == "horns"), 0.06, "ball")
    if style == "trunk":
        toy.limb(snout, snout + _vector(0.15, 0, -0.6 * leg), 0.08)
    rump = _vector(-0.95 * length, 0, z + 0.2 * girth)
    toy.limb(rump, rump + u(0.15, 0.4) * _vector(-0.5, 0, u(-1, 0.8)), u(0.04, 0.08))
    return toy.parts()


def _human(rng):
    toy, u = _Toy(), rng.uniform
    leg, torso, shoulder = u(0.75, 1.0), u(0.55, 0.75), u(0.26, 0.38)
    thick, stance, stride = u(0.09, 0.13), u(0.12, 0.35), u(-0.3, 0.3)
    hip = leg + thick
    for side in (-1, 1):
        foot = _vector(side * stride, side * stance, thick)
        toy.limb((0, side * 0.13, hip), foot, thick)
        toy.add("ball", foot + _vector(0.1, 0, -0.3 * thick), 0.2, 0.1, 0.7 * thick)
    toy.add("ball", (0, 0, hip + torso / 2), u(0.15, 0.22), 0.8 * shoulder, 0.62 * torso)
    toy.limb((0, -shoulder, hip + torso * 0.9), (0, shoulder, hip + torso * 0.9), 1.1 * thick)
    toy.add("ball", (0, 0, hip + 0.05), 0.17, 0.22, 0.16)
    skull = u(0.16, 0.22)
    top = hip + torso + 0.08 + skull
    toy.rod((0, 0, hip + torso * 0.9), (0, 0, top), 0.08)
    toy.add("ball", (0, 0, top), skull, 0.85 * skull, 1.1 * skull)
    upper, lower = u(0.3, 0.4), u(0.3, 0.4)
    for side in (-1, 1):
        lift, forward, bend = u(-1.4, 0.6), u(-0.7, 0.9), u(-0.2, 1.2)
        start = _vector(0, side * shoulder, hip + torso * 0.9)
        out = _vector(np.sin(forward), side * np.cos(lift), np.sin(lift))
        elbow = start + upper * out / np.linalg.norm(out)
        out = _vector(np.sin(forward) + bend, 0.6 * side * np.cos(lift), np.sin(lift))
        hand = elbow + lower * out / np.linalg.norm(out)
        toy.limb(start, elbow, 0.75 * thick)
        toy.limb(elbow, hand, 0.65 * thick)
        toy.add("ball", hand, 0.1, 0.09, 0.1)
    gear = rng.choice(["hat", "pack", "staff", "none"])
    if gear == "hat":
        toy.rod((0, 0, top + 0.5 * skull), (0, 0, top + 0.65 * skull), 1.8 * skull)
        toy.rod((0, 0, top + 0.5 * skull), (0, 0, top + 1.5 * skull), 0.85 * skull)
    elif gear == "pack":
        toy.add("box", (-0.28, 0, hip + 0.6 * torso), 0.14, 0.8 * shoulder, 0.4 * torso)
    elif gear == "staff":
        toy.rod(hand - _vector(0, 0, 0.7), hand + _vector(0, 0, 0.6), 0.04)
    return toy.parts()


def _airplane(rng):
    toy, u = _Toy(), rng.uniform
    length, girth, span = u(1.0, 1.4), u(0.13, 0.22), u(0.9, 1.5)
    gear = u(0.1, 0.25)
    z = gear + girth
    toy.rod((-0.55 * length, 0, z), (0.6 * length, 0, z), girth)
    toy.add("ball", (0.6 * length, 0, z), u(1.2, 2.6) * girth, girth, girth)
    tail = -length * u(0.95, 1.1)
    toy.rod((2 * (-0.55 * length) - tail, 0, z), (tail, 0, z + 0.1), girth, "ball")
    chord, sweep = u(0.16, 0.3), u(0.0, 0.6)
    height = z + girth * rng.choice([-0.6, 0.0, 0.9])
    dihedral, root = u(-0.02, 0.12), u(0.0, 0.3) * length
    decks = [0.0, 0.45] if rng.uniform() < 0.25 else [0.0]
    for side, deck in product((-1, 1), decks):
        half = _vector(-sweep, side, dihedral) * span / 2
        middle = _vector(root, 0, height)
        lift = _vector(0, 0, deck)
        toy.add("box", half + middle + lift, chord, half, 0.03)
        if deck:
            toy.rod(1.3 * half + middle, 1.3 * half + middle + lift, 0.03)
    fin = u(0.25, 0.45)
    high = rng.uniform() < 0.4
    toy.add("box", (tail + 0.1, 0, z + fin / 2), 0.13, 0.025, (-0.3 * fin, 0, 0.6 * fin))
    for side in (-1, 1):
        half = _vector(-0.4, side, 0) * u(0.3, 0.45) / 2
        toy.add("box", half + _vector(tail + 0.1, 0, z + high * fin), 0.12, half, 0.025)
    engines = rng.choice(["propeller", "wings", "tail"])
    for side in (-1, 1):
        if engines == "wings":
            x, y = root - 0.35 * sweep * span, side * 0.38 * span
            bottom = height - 0.08
            toy.rod((x - 0.1, y, bottom), (x + chord + 0.15, y, bottom), 0.085)
        elif engines == "tail":
            y = side * (girth + 0.08)
            toy.rod((tail + 0.2, y, z + 0.1), (tail + 0.6, y, z + 0.1), 0.085)
        toy.rod((root, side * 0.8 * girth, 0.07), (root, 1.2 * side * girth, z), 0.03)
        toy.rod((root, side * (girth + 0.03), 0.07), (root, side * (girth - 0.04), 0.07), 0.07)
    if engines == "propeller":
        nose = 0.6 * length + 1.2 * girth
        toy.rod((nose - 0.1, 0, z), (nose + 0.12, 0, z), 0.05)
        half = _vector(0, np.cos(0.5), np.sin(0.5))
        toy.add("box", (nose + 0.08, 0, z), 0.02, 0.38 * half, 0.05)
    toy.add("ball", (u(0.3, 0.5) * length, 0, z + 0.8 * girth), 0.22, 0.7 * girth, 0.6 * girth)
    return toy.parts()


def _truck(rng):
    toy, u = _Toy(), rng.uniform
    length, width, radius = u(1.0, 1.4), u(0.38, 0.48), u(0.19, 0.25)
    deck = 1.5 * radius
    toy.add("box", (0, 0, deck), length, 0.75 * width, 0.07)
    cab, tall = u(0.22, 0.32), u(0.35, 0.5)
    hood = rng.choice([0.0, 0.3])
    front = length - hood
    toy.add("box", (front - cab, 0, deck + tall), cab, width, tall)
    if hood:
        toy.add("box", (length - 0.1, 0, deck + 0.22), 0.2, 0.85 * width, 0.22)
    back = front - 2 * cab - 0.06
    middle, half = (back - length) / 2, (back + length) / 2
    floor = deck + 0.07
    load = rng.choice(["box", "tank", "dump", "logs"])
    if load == "box":
        high = u(0.4, 0.6)
        toy.add("box", (middle, 0, floor + high), half, 1.05 * width, high)
    elif load == "tank":
        size = u(0.85, 1.0) * width
        toy.rod((-length, 0, floor + size), (back, 0, floor + size), size)
        toy.rod((middle, 0, floor + size), (middle, 0, floor + 2.25 * size), 0.12)
    elif load == "dump":
        high, tilt = u(0.2, 0.3), u(0.0, 0.5)
        along = half * _vector(np.cos(tilt), 0, np.sin(tilt))
        up = _vector(-np.sin(tilt), 0, np.cos(tilt))
        center = _vector(-length, 0, floor) + along
        toy.add("box", center, along, width, 0.04 * up)
        for side in (-1, 1):
            wall = center + _vector(0, side * width, 0) + high * up
            toy.add("box", wall, along, 0.04, high * up)
        toy.add("box", center + along + high * up, 0.04, width, high * up)
    else:
        for y, z in ((-0.6, 0.16), (0, 0.16), (0.6, 0.16), (-0.3, 0.42), (0.3, 0.42)):
            y, z = y * 0.75 * width, floor + z
            toy.rod((-length - 0.1, y, z), (back, y, z), 0.14)
    axles = [front - cab, -0.75 * length, -0.75 * length + 2.4 * radius]
    toy.wheels(axles[: rng.integers(2, 4)], width + 0.05, radius, 0.15)
    return toy.parts()


def _car(rng):
    toy, u = _Toy(), rng.uniform
    length, width, radius = u(0.85, 1.05), u(0.36, 0.44), u(0.18, 0.23)
    low, belt = 0.7 * radius, u(0.36, 0.48)
    toy.add("box", (0, 0, (low + belt) / 2), length, width, (belt - low) / 2)
    toy.rod((length, -width, low + 0.12), (length, width, low + 0.12), 0.12)
    toy.rod((-length, -width, low + 0.12), (-length, width, low + 0.12), 0.12)
    style = rng.choice(["sedan", "hatchback", "wagon", "beetle", "racer"])
    roof = u(0.13, 0.18)
    if style == "beetle":
        toy.add("ball", (-0.1, 0, belt), 0.75 * length, 0.92 * width, 2.4 * roof)
        toy.add("ball", (0.55 * length, 0, belt), 0.5 * length, 0.8 * width, 0.12)
    elif style == "racer":
        toy.add("ball", (-0.15, 0, belt), 0.45 * length, 0.6 * width, 1.3 * roof)
        for side in (-1, 1):
            toy.add("box", (-0.9 * length, 0.6 * side * width, belt + 0.1), 0.03, 0.03, 0.1)
        toy.add("box", (-0.9 * length, 0, belt + 0.22), 0.12, width, 0.025)
    else:
        # A cabin with raked screens: two sheared boxes that overlap.
        rear = {"sedan": -0.45, "hatchback": -0.75, "wagon": -0.88}[style] * length
        steep = {"sedan": 0.12, "hatchback": 0.12, "wagon": 0.03}[style]
        front, rake = u(0.25, 0.4) * length, u(0.1, 0.15)
        inner = 0.88 * width
        half = (front - rear - rake - steep) / 2
        for x, slope in ((front - rake / 2 - half, -rake), (rear + steep / 2 + half, steep)):
            toy.add("box", (x, 0, belt + roof), half, inner, (slope / 2, 0, roof))
    toy.wheels((-0.6 * length, 0.62 * length), width + 0.06, radius, 0.14)
    return toy.parts()


_MAKERS = (_animal, _human, _airplane, _truck, _car)


# Renderer: the nearest part along each ray, with the shadows of four lamps.

_DISTANCE = 6.0  # of the cameras from the middle of the toy, in its radii
_LAMP_DISTANCE = 8.0
_EYES = (-2.5, 2.5)  # degrees beside the azimuth of the pair
_FINER = 2  # rays per pixel along each side
_AMBIENT, _TOY_ALBEDO, _GROUND_ALBEDO = 0.3, 0.72, 0.6
# Azimuth and elevation in degrees; azimuth 0 is the cameras'.
_LAMPS = ((-55, 50), (55, 50), (-130, 40), (150, 60))
# Power of each lamp (column) in each lighting (row).
_POWERS = np.array(
    [
        (0.8, 0.0, 0.0, 0.0),
        (0.0, 1.0, 0.0, 0.0),
        (0.6, 0.6, 0.0, 0.0),
        (0.0, 0.0, 0.4, 0.3),
        (0.0, 0.5, 0.5, 0.0),
        (0.33, 0.33, 0.33, 0.33),
    ],
    dtype=np.float32,
)
_SHADOW_SIZE = 160
_SHADOW_BIAS = 0.02


def _direction(azimuth, elevation):
    """Return the unit vector to a place in the sky, both angles in degrees."""
    azimuth, elevation = np.radians((azimuth, elevation))
    flat = np.cos(elevation)
    return np.array((flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)))


def _turn(azimuth):
    """Return the matrix that turns a toy about the vertical, by degrees."""
    azimuth = np.radians(azimuth)
    cos, sin = np.cos(azimuth), np.sin(azimuth)
    return np.array(((cos, -sin, 0), (sin, cos, 0), (0, 0, 1)))


class _Camera:
    """A pinhole camera that looks at the origin; depths are along its axis."""

    def __init__(self, toward, distance, size, filling=0.95):
        forward = -toward
        right = np.cross(forward, (0, 0, 1))
        right /= np.linalg.norm(right)
        self.axes = np.stack([right, np.cross(forward, right), forward])
        self.origin = distance * toward
        self.size = size
        # The ball of radius 1 fills this share of the image.
        self.focal = filling * size / 2 * np.sqrt(distance**2 - 1)
        steps = (np.arange(size) + 0.5 - size / 2) / self.focal
        right_part = steps[None, :, None] * self.axes[0]
        self.rays = (right_part + steps[:, None, None] * self.axes[1] + forward).astype("f4")

    def project(self, points):
        """Return column, row (both in pixels) and depth of points (..., 3)."""
        seen = (points - self.origin.astype(points.dtype)) @ self.axes.T.astype(points.dtype)
        depth = seen[..., 2]
        scale = self.focal / depth
        half = self.size / 2
        return seen[..., 0] * scale + half, seen[..., 1] * scale + half, depth

    def pixels(self, points):
        """Return the number of the pixel (in rows) of each point, and its depth."""
        column, row, depth = self.project(points)
        column = np.clip(column.astype(np.int32), 0, self.size - 1)
        return np.clip(row.astype(np.int32), 0, self.size - 1) * self.size + column, depth


def _slab(origin, rays):
    """Depths at which rays enter and leave -1 <= x <= 1, along each axis given."""
    inverse = 1 / np.where(np.abs(rays) < 1e-9, np.float32(1e-9), rays)
    middle, half = -origin * inverse, np.abs(inverse)
    return middle - half, middle + half


def _hit(kind, origin, rays):
    """Depths at which rays enter a unit solid, infinite for those that miss it.

    Shapes (3,) and (..., 3), of the solid's own coordinates.
    """
    n_round = {"ball": 3, "cylinder": 2, "box": 0}[kind]
    if n_round:
        # From the nearest point of the ray to the center: origin and rays are long where
        # the part is thin, and float32 would not bear the usual quadratic formula.
        x = rays[..., :n_round]
        square = np.maximum(np.einsum("...i,...i", x, x), np.float32(1e-9))
        nearest = -(x @ origin[:n_round]) / square
        offset = origin[:n_round] + nearest[..., None] * x
        room = 1 - np.einsum("...i,...i", offset, offset)
        half = np.sqrt(np.maximum(room, 0) / square)
        near, far, hit = nearest - half, nearest + half, room > 0
    else:
        near, far, hit = np.float32(-np.inf), np.float32(np.inf), True
    for axis in range(n_round, 3):
        enter, leave = _slab(origin[axis], rays[..., axis])
        near, far = np.maximum(near, enter), np.minimum(far, leave)
    return np.where(hit & (near < far), near, np.float32(np.inf))


def _trace(camera, parts):
    """Find the nearest part along each ray of a camera.

    Returns the depths, infinite where there is none, and the numbers of the parts, -1 where
    there is none; both of shape (size, size).
    """
    kinds, centers, frames = parts
    depth = np.full((camera.size, camera.size), np.inf, dtype=np.float32)
    owner = np.full(depth.shape, -1, dtype=np.int8)
    columns, rows, _ = camera.project(_corners(centers, frames))
    # Only rays within the rectangle around a part's corners can hit it.
    left, right = columns.min(1).clip(0).astype(int), columns.max(1).astype(int) + 1
    top, bottom = rows.min(1).clip(0).astype(int), rows.max(1).astype(int) + 1
    inverses = np.linalg.inv(frames).astype(np.float32)
    origins = np.einsum("nij,nj->ni", inverses, (camera.origin - centers).astype(np.float32))
    for part, kind in enumerate(kinds):
        window = slice(top[part], bottom[part]), slice(left[part], right[part])
        t = _hit(kind, origins[part], camera.rays[window] @ inverses[part].T)
        nearer = t < depth[window]
        np.copyto(depth[window], t, where=nearer)
        np.copyto(owner[window], np.int8(part), where=nearer)
    return depth, owner


def _normals(points, owner, parts):
    """Return the unit normals (n, 3) of points on the parts that own them."""
    normals = np.empty_like(points)
    for part, (kind, center, frame) in enumerate(zip(*parts)):
        mine = np.flatnonzero(owner == part)
        inverse = np.linalg.inv(frame)
        local = (points[mine] - center) @ inverse.T
        if kind != "ball":
            size = np.abs(local)
            if kind == "cylinder":
                size[:, :2] = np.hypot(size[:, 0], size[:, 1])[:, None]
            local *= size == size.max(1, keepdims=True)
        normal = local @ inverse
        normals[mine] = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return normals


def _blur(image, times=3):
    """Blur by 3 x 3 means: the lamps are no points, and their shadows have soft edges."""
    for _ in range(times):
        for axis in (0, 1):
            image = (image + np.roll(image, 1, axis) + np.roll(image, -1, axis)) / 3
    return image


def _pixel_means(rays):
    """Average the rays of each pixel, (n, m, m) to (n, m / _FINER, m / _FINER)."""
    rows_and_columns = product(range(_FINER), repeat=2)
    total = sum(rays[:, row::_FINER, column::_FINER] for row, column in rows_and_columns)
    return total / np.float32(_FINER**2)


class _Studio:
    """Cameras and lamps, which stay where they are while the toy turns."""

    def __init__(self, elevations, size, shadow):
        self.shadow = np.float32(shadow)
        self.size = size
        self.cameras = [
            _Camera(_direction(eye, elevation), _DISTANCE, _FINER * size)
            for elevation, eye in product(elevations, _EYES)
        ]
        self.lamps = np.array([_direction(*lamp) for lamp in _LAMPS])
        # What a lamp does not see lies in its shadow.
        self.lamp_cameras = [
            _Camera(lamp, _LAMP_DISTANCE, _SHADOW_SIZE, filling=0.9) for lamp in self.lamps
        ]
        self.lamps = self.lamps.astype(np.float32)

    def ground_seen_by_lamps(self, height):
        """Return where each lamp sees the ground that each pixel of each camera shows.

        Numbers of pixels of the lamps' images, of shape (n_cameras, n_lamps, size * size).
        """
        seen = []
        for camera in self.cameras:
            rays = _pixel_means(np.moveaxis(camera.rays, 2, 0)).reshape(3, -1).T
            points = camera.origin + (height - camera.origin[2]) / rays[:, 2:] * rays
            points = points.astype(np.float32)
            seen.append([lamp.pixels(points)[0] for lamp in self.lamp_cameras])
        return np.array(seen)

    def render(self, parts, ground_seen_by_lamps):
        """Render a toy: bytes of shape (n_elevations, n_lightings, size, size, n_eyes)."""
        traced = [_trace(lamp, parts) for lamp in self.lamp_cameras]
        lamp_depths = [depth.ravel() for depth, _ in traced]
        ground_shades = [_blur((owner >= 0).astype(np.float32)).ravel() for _, owner in traced]
        images = np.empty(
            (len(self.cameras), N_LIGHTINGS, self.size, self.size), dtype=np.uint8
        )
        for image, camera, seen in zip(images, self.cameras, ground_seen_by_lamps):
            depth, owner = _trace(camera, parts)
            on_toy = owner >= 0
            rays = np.zeros((N_LIGHTINGS, *owner.shape), dtype=np.float32)
            rays[:, on_toy] = self._toy_light(camera, depth, owner, parts, lamp_depths)
            uncovered = _pixel_means((~on_toy[None]).astype(np.float32))
            light = _pixel_means(rays) + uncovered * self._ground_light(ground_shades, seen)
            image[:] = np.minimum(255 * light + np.float32(0.5), 255)
        images = images.reshape(-1, len(_EYES), *images.shape[1:])
        return np.moveaxis(images, 1, -1)

    def _ground_light(self, shades, seen):
        """Light from the ground, of shape (n_lightings, size, size)."""
        lit = np.stack([1 - self.shadow * shade[at] for shade, at in zip(shades, seen)])
        light = _GROUND_ALBEDO * (_AMBIENT + (_POWERS * self.lamps[:, 2]) @ lit)
        return light.reshape(-1, self.size, self.size)

    def _toy_light(self, camera, depth, owner, parts, lamp_depths):
        """Light from the rays that meet the toy, of shape (n_lightings, n)."""
        on_toy = owner >= 0
        points = camera.origin.astype(np.float32) + depth[on_toy, None] * camera.rays[on_toy]
        normals = _normals(points, owner[on_toy], parts)
        lit = np.maximum(self.lamps @ normals.T, 0)
        # A lamp's image is coarse: off the surface, no part shades itself by rounding.
        raised = points + np.float32(_SHADOW_BIAS) * normals
        for of_lamp, lamp, nearest in zip(lit, self.lamp_cameras, lamp_depths):
            pixels, depth_there = lamp.pixels(raised)
            of_lamp *= 1 - self.shadow * (depth_there > nearest[pixels] + _SHADOW_BIAS)
        # The sky gives more than the ground.
        ambient = _AMBIENT * (0.75 + 0.25 * normals[:, 2])
        return _TOY_ALBEDO * (ambient + _POWERS @ lit)


def render_small_norb(
    seed=0,
    *,
    categories=range(5),
    instances=range(10),
    elevations=range(9),
    azimuths=range(18),
    size=SIZE,
    shadow=0.75,
    progress=False,
):
    """Render stereo pairs on the grid of Small-NORB.

    The toys are built of balls, boxes and cylinders; the proportions of each, and some of
    its parts, are drawn at random. They stand on a grey ground, and four lamps are on in
    six combinations. The same arguments give the same images, and a part of the grid is
    the same as in the whole.

    Parameters
    ----------
    seed : int, default=0
        Seed of the toys.
    categories, instances, elevations, azimuths : iterable of int, default=all
        The values to render, as numbers from 0; all lightings are rendered always.
    size : int, default=96
        Width and height of the images.
    shadow : float, default=0.75
        Share of a lamp's light that its shadow takes away, from 0 to 1.
    progress : bool, default=False
        Whether to show a progress bar.

    Returns
    -------
    images : ndarray of shape (n, size, size, 2), uint8
        The left and the right eye as channels.
    factors : ndarray of shape (n, 4), int64
        Category, elevation, azimuth and lighting, with the numbers of `load_small_norb`.
    instances : ndarray of shape (n,), int64
        Number of the toy in its category.

    Notes
    -----
    The rows are sorted by category, instance, azimuth, elevation and lighting. 48,600 pairs
    take a few minutes and 0.9 GB.
    """
    toys = list(product(categories, instances))
    elevations, azimuths = list(elevations), list(azimuths)
    studio = _Studio(ELEVATIONS[elevations], size, shadow)
    n_per_turn = len(elevations) * N_LIGHTINGS
    images = np.empty((len(toys), len(azimuths), n_per_turn, size, size, 2), dtype=np.uint8)
    bar = tqdm(toys, desc="rendering", unit="toy", disable=not progress)
    for of_toy, (category, instance) in zip(images, bar):
        rng = np.random.default_rng((seed, category, instance))
        kinds, centers, frames = _MAKERS[category](rng)
        lowest = _surfaces(kinds, centers, frames)[..., 2].min()
        seen = studio.ground_seen_by_lamps(lowest)
        for of_turn, azimuth in zip(of_toy, azimuths):
            turn = _turn(AZIMUTHS[azimuth])
            parts = kinds, centers @ turn.T, turn @ frames
            of_turn[:] = studio.render(parts, seen).reshape(of_turn.shape)
    places = product(azimuths, elevations, range(N_LIGHTINGS))
    values = [(*toy, *place) for toy, place in product(toys, places)]
    category, instance, azimuth, elevation, lighting = np.array(values).T
    factors = np.stack([category, elevation, azimuth, lighting], axis=1)
    return images.reshape(-1, size, size, 2), factors, instance


def train_rows(instances):
    """Say which rows are of the official training set; all others are of the test set.

    Parameters
    ----------
    instances : ndarray of shape (n,)
        Numbers of the toys in their categories.

    Returns
    -------
    mask : ndarray of shape (n,), bool
        True for instances 4, 6, 7, 8 and 9: 24,300 of the 48,600 rows, and no toy is in
        both sets.
    """
    return np.isin(instances, TRAIN_INSTANCES)


def _check_writable(folder):
    """Make a folder, or say before the minutes of rendering that nothing can be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SystemExit(
            f"{folder} cannot take the rendered images: {error.strerror}."
        ) from None


def small_norb(folder, *, whole=True):
    """Load Small-NORB, or render the stand-in and keep it, if no official file is there.

    Parameters
    ----------
    folder : path
        Of the official files (see `load_small_norb`) or of ``small_norb_rendered.npz``,
        which is made if it is not there. Delete that file to render anew.
    whole : bool, default=True
        Without it a sixth of the grid, every sixth azimuth, is rendered and not kept where
        no file is there.

    Returns
    -------
    images : ndarray of shape (48600, 96, 96, 2), uint8
        The left and the right eye as channels.
    factors : ndarray of shape (48600, 4), int64
        Category 0 to 4, elevation 0 to 8, azimuth 0 to 17 and lighting 0 to 5.
    instances : ndarray of shape (48600,), int64
        Which of the ten toys of its category, 0 to 9; see `train_rows`.
    source : {"official", "rendered", "few rendered"}
        Which of them it is; the last is the sixth of the grid.

    Raises
    ------
    FileNotFoundError
        If some official files are there, but not all.
    ValueError
        If an official file is damaged.
    SystemExit
        If the rendered images cannot be kept in the folder.
    """
    names = (name.format(part) for name, part in product(OFFICIAL_FILES, OFFICIAL_PARTS))
    if any(_find(folder, name) for name in names):
        return *load_small_norb(folder), "official"
    path = Path(folder) / RENDERED_FILE
    if not path.exists() and not whole:
        return *render_small_norb(azimuths=range(0, 18, 6), progress=True), "few rendered"
    if not path.exists():
        _check_writable(path.parent)
        arrays = dict(zip(_ARRAYS, render_small_norb(progress=True)))
        # Under another name until it is complete.
        unfinished = path.with_name(f"unfinished_{path.name}")
        np.savez_compressed(unfinished, **arrays)
        unfinished.replace(path)
    with np.load(path) as arrays:
        return *(arrays[name] for name in _ARRAYS), "rendered"


def draw_preview(images, factors, instances, path):
    """Draw all toys, and what each factor does to one toy of each category.

    Parameters
    ----------
    images, factors, instances : ndarray
        As `small_norb` returns them.
    path : path
        Where to write the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    base = {"elevation": 1, "azimuth": 1, "lighting": 2, "instance": 4, "eye": 0}
    shown = {
        "instance": range(N_INSTANCES),
        "lighting": range(N_LIGHTINGS),
        "elevation": range(len(ELEVATIONS)),
        "azimuth": range(0, len(AZIMUTHS), 2),
        "eye": range(2),
    }
    row_of = {(*f, i): row for row, (f, i) in enumerate(zip(factors.tolist(), instances))}
    fig, axes = plt.subplots(len(shown), figsize=(10, 26), layout="constrained")
    for ax, (name, values) in zip(axes, shown.items()):
        sheet = []
        for category in range(len(CATEGORIES)):
            places = [base | {name: value} for value in values]
            keys = ("elevation", "azimuth", "lighting", "instance")
            rows = [row_of[(category, *(place[key] for key in keys))] for place in places]
            tiles = [images[row, :, :, place["eye"]] for row, place in zip(rows, places)]
            blank = [np.full_like(tiles[0], 255)] * (N_INSTANCES - len(tiles))
            sheet.append(np.hstack(tiles + blank))
        ax.imshow(np.vstack(sheet), cmap="gray", vmin=0, vmax=255)
        ax.set_title(f"{name} {', '.join(str(value) for value in values)}")
        ax.set_axis_off()
    fig.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the images")
    parser.add_argument("--preview", type=Path, help="picture to draw (needs matplotlib)")
    args = parser.parse_args()
    images, factors, instances, source = small_norb(args.out)
    n_train = train_rows(instances).sum()
    print(f"{source}: {n_train} training and {len(images) - n_train} test pairs")
    if args.preview:
        draw_preview(images, factors, instances, args.preview)


if __name__ == "__main__":
    main()
