import gzip
import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parent.parent / "examples" / "paper" / "small_norb.py"


@pytest.fixture(scope="module")
def norb():
    spec = importlib.util.spec_from_file_location("small_norb", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rendered(norb):
    return norb.render_small_norb(
        instances=[0, 4], elevations=[0, 8], azimuths=[0, 5], size=48
    )


def _pick(rendered, category=0, elevation=0, azimuth=0, lighting=0, instance=0):
    images, factors, instances = rendered
    place = (category, elevation, azimuth, lighting)
    (row,) = np.flatnonzero((factors == place).all(1) & (instances == instance))
    return images[row].astype(int)


def test_the_grid_of_factors_is_complete_and_balanced(rendered):
    images, factors, instances = rendered
    assert images.shape == (5 * 2 * 2 * 2 * 6, 48, 48, 2)
    assert images.dtype == np.uint8
    rows = {(*place, instance) for place, instance in zip(factors.tolist(), instances)}
    assert rows == set(product(range(5), (0, 8), (0, 5), range(6), (0, 4)))
    assert len(rows) == len(images)


def test_the_whole_grid_is_that_of_small_norb(norb):
    n_toys = len(norb.CATEGORIES) * norb.N_INSTANCES
    n_views = len(norb.ELEVATIONS) * len(norb.AZIMUTHS) * norb.N_LIGHTINGS
    assert n_toys * n_views == 48_600
    assert (norb.ELEVATIONS == np.linspace(30, 70, 9)).all()
    assert (norb.AZIMUTHS == np.linspace(0, 340, 18)).all()
    instances = np.repeat(np.arange(10), 4860)
    train = norb.train_rows(instances)
    assert train.sum() == 24_300
    assert set(instances[train]) == {4, 6, 7, 8, 9}
    assert set(instances[~train]) == set(norb.TEST_INSTANCES) == {0, 1, 2, 3, 5}


def test_rendering_is_deterministic_and_a_part_is_as_in_the_whole(norb, rendered):
    images, factors, instances = rendered
    part = norb.render_small_norb(
        categories=[3], instances=[4], elevations=[8], azimuths=[5], size=48
    )
    chosen = (factors[:, :3] == (3, 8, 5)).all(1) & (instances == 4)
    np.testing.assert_array_equal(part[0], images[chosen])
    np.testing.assert_array_equal(part[1], factors[chosen])
    kwargs = {"categories": [3], "instances": [4], "elevations": [8], "azimuths": [5]}
    other = norb.render_small_norb(seed=1, size=48, **kwargs)
    assert (other[0] != part[0]).mean() > 0.05


@pytest.mark.parametrize(
    "change",
    [{"category": 4}, {"elevation": 8}, {"azimuth": 5}, {"lighting": 1}, {"instance": 4}],
)
def test_every_factor_changes_the_image(rendered, change):
    for category in range(4):
        base = _pick(rendered, category=category)
        other = _pick(rendered, **{"category": category} | change)
        assert (abs(base - other) > 10).mean() > 0.02


def test_every_two_lightings_differ(rendered):
    for first, second in product(range(6), repeat=2):
        if first < second:
            lit = [_pick(rendered, lighting=lighting) for lighting in (first, second)]
            assert abs(lit[0] - lit[1]).mean() > 3


def test_the_two_eyes_differ_as_by_a_small_turn(rendered):
    for category in range(5):
        left, right = np.moveaxis(_pick(rendered, category=category), -1, 0)
        turned = _pick(rendered, category=category, azimuth=5)[..., 0]
        assert 0 < abs(left - right).mean() < abs(left - turned).mean() / 2


def test_the_pixels_use_the_range_of_bytes_without_much_clipping(rendered):
    images = rendered[0]
    assert (images > 254).mean() < 0.01
    assert (images < 1).mean() < 0.01
    assert images.std() > 20


@pytest.fixture(scope="module")
def lamps_without_shadows(norb):
    return norb.render_small_norb(
        instances=[4], elevations=[2], azimuths=[3], size=48, shadow=0
    )


def test_lighting_does_not_change_the_silhouette(norb, lamps_without_shadows):
    images = lamps_without_shadows[0].reshape(5, 6, 48, 48, 2).astype(int)
    ground = images[:, :, :1, :1]
    differs = images != ground
    toy = differs.any(axis=1, keepdims=True)
    assert 0.1 < toy.mean() < 0.6
    # Here and there a toy is just as bright as the ground.
    assert (differs | ~toy).mean() > 0.97


def test_without_shadows_all_but_the_toy_is_plain_ground(norb, lamps_without_shadows):
    images = lamps_without_shadows[0].reshape(5, 6, 48, 48, 2)
    for category in range(5):
        kinds, centers, frames = norb._MAKERS[category](
            np.random.default_rng((0, category, 4))
        )
        turn = norb._turn(60)
        for eye, degrees in enumerate(norb._EYES):
            camera = norb._Camera(norb._direction(degrees, 40), norb._DISTANCE, 96)
            _, owner = norb._trace(camera, (kinds, centers @ turn.T, turn @ frames))
            free = (owner < 0).reshape(48, 2, 48, 2).all((1, 3))
            for image in images[category, ..., eye]:
                assert np.unique(image[free]).size == 1


def test_shadows_darken_and_only_darken(norb, lamps_without_shadows):
    shaded = norb.render_small_norb(instances=[4], elevations=[2], azimuths=[3], size=48)[0]
    change = shaded.astype(int) - lamps_without_shadows[0]
    assert change.max() <= 1
    assert (change < -10).mean() > 0.05


def test_every_toy_fits_into_the_image_and_fills_much_of_it(norb):
    camera = norb._Camera(norb._direction(0, 30), norb._DISTANCE, 48)
    for category, instance in product(range(5), range(10)):
        rng = np.random.default_rng((0, category, instance))
        kinds, centers, frames = norb._MAKERS[category](rng)
        longest = 0
        for degrees in (0, 100, 220):
            turn = norb._turn(degrees)
            _, owner = norb._trace(camera, (kinds, centers @ turn.T, turn @ frames))
            rows, columns = np.nonzero(owner >= 0)
            assert min(rows.min(), columns.min()) > 0
            assert max(rows.max(), columns.max()) < 47
            longest = max(longest, np.ptp(rows), np.ptp(columns))
        assert longest > 28


def _inside(kind, points):
    if kind == "ball":
        return (points**2).sum(-1) < 1
    flat = abs(points[..., 2]) < 1
    if kind == "box":
        return flat & (abs(points[..., :2]) < 1).all(-1)
    return flat & ((points[..., :2] ** 2).sum(-1) < 1)


@pytest.mark.parametrize("kind", ["ball", "box", "cylinder"])
def test_rays_hit_solids_where_small_steps_along_them_first_get_inside(norb, kind):
    rng = np.random.RandomState(0)
    origin = np.array((4.0, -3.0, 2.0), dtype=np.float32)
    rays = (rng.uniform(-1.5, 1.5, size=(300, 3)) - origin).astype(np.float32) / 5
    hit = norb._hit(kind, origin, rays)
    steps = np.arange(0, 10, 0.002)
    inside = _inside(kind, origin + steps[:, None, None] * rays)
    first = np.where(inside.any(0), steps[inside.argmax(0)], np.inf)
    grazed = np.isfinite(hit) != np.isfinite(first)
    assert grazed.mean() < 0.02
    np.testing.assert_allclose(hit[~grazed], first[~grazed], atol=0.003)
    assert 0.2 < np.isfinite(hit).mean() < 0.9


@pytest.mark.parametrize("kind", ["ball", "box", "cylinder"])
def test_normals_stand_on_the_traced_surface_and_face_the_camera(norb, kind):
    rng = np.random.RandomState(0)
    parts = [kind], np.zeros((1, 3)), rng.uniform(-0.5, 0.5, size=(1, 3, 3))
    camera = norb._Camera(norb._direction(0, 45), 6.0, 128)
    depth, owner = norb._trace(camera, parts)
    on_part = owner == 0
    points = np.zeros((*owner.shape, 3))
    points[on_part] = camera.origin + depth[on_part, None] * camera.rays[on_part]
    normals = np.zeros_like(points)
    normals[on_part] = norb._normals(points[on_part], owner[on_part], parts)
    assert (np.einsum("...i,...i", normals, camera.rays)[on_part] < 1e-3).all()
    # Neighbors on the surface differ at right angles to the normal, but at an edge.
    both = on_part[:, 1:] & on_part[:, :-1]
    step = (points[:, 1:] - points[:, :-1])[both]
    middle = (normals[:, 1:] + normals[:, :-1])[both]
    cosine = np.einsum("ni,ni->n", step, middle) / np.linalg.norm(step, axis=1)
    assert np.median(abs(cosine)) < 0.01


def _write_matrix(path, array):
    codes = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}
    sizes = [*array.shape, 1, 1][: max(array.ndim, 3)]
    header = np.array([codes[array.dtype], array.ndim, *sizes], dtype="<i4")
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(header.tobytes() + array.tobytes())


def _write_official(folder, norb, suffix, n=7):
    rng = np.random.RandomState(0)
    written = []
    for name, of_set in zip(norb.OFFICIAL_FILES, (norb.TRAIN_INSTANCES, norb.TEST_INSTANCES)):
        images = rng.randint(256, size=(n, 2, 96, 96)).astype("u1")
        category = rng.randint(5, size=n).astype("<i4")
        columns = [rng.choice(of_set, n), *(rng.randint(size, size=n) for size in (9, 18, 6))]
        info = np.stack(columns, axis=1).astype("<i4")
        written.append((images, category, info))
        in_file = info * np.array((1, 1, 2, 1), dtype="<i4")
        for part, array in zip(("dat", "cat", "info"), (images, category, in_file)):
            _write_matrix(folder / (name.format(part) + suffix), array)
    return [np.concatenate(arrays) for arrays in zip(*written)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_official_files_are_read_back(tmp_path, norb, suffix):
    written, category, info = _write_official(tmp_path, norb, suffix)
    images, factors, instances, source = norb.small_norb(tmp_path)
    assert source == "official"
    assert images.shape == (14, 96, 96, 2)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], written[:, 0])
    np.testing.assert_array_equal(images[..., 1], written[:, 1])
    np.testing.assert_array_equal(factors, np.column_stack([category, info[:, 1:]]))
    np.testing.assert_array_equal(instances, info[:, 0])
    np.testing.assert_array_equal(norb.train_rows(instances), np.arange(14) < 7)


def test_a_missing_official_file_is_named_and_nothing_rendered(tmp_path, norb):
    _write_official(tmp_path, norb, "")
    (tmp_path / norb.OFFICIAL_FILES[1].format("info")).unlink()
    with pytest.raises(FileNotFoundError, match=r"01235.*testing-info.mat\(\.gz\) is not in"):
        norb.small_norb(tmp_path)


def test_damaged_official_files_are_refused(tmp_path, norb):
    _write_official(tmp_path, norb, "")
    path = tmp_path / norb.OFFICIAL_FILES[0].format("cat")
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="cut short: 27 of 28 bytes"):
        norb.load_small_norb(tmp_path)
    path.write_bytes(b"\0" + content[1:])
    with pytest.raises(ValueError, match="not a binary matrix"):
        norb.load_small_norb(tmp_path)
    _write_matrix(path, np.zeros(6, dtype="<i4"))
    with pytest.raises(ValueError, match=r"differ in length: .*'cat': 6"):
        norb.load_small_norb(tmp_path)


def test_the_rendered_images_are_made_once_and_kept(tmp_path, norb, rendered, monkeypatch):
    calls = []

    def render(**kwargs):
        calls.append(kwargs)
        return rendered

    monkeypatch.setattr(norb, "render_small_norb", render)
    for _ in range(2):
        *arrays, source = norb.small_norb(tmp_path / "new")
        assert source == "rendered"
        for array, expected in zip(arrays, rendered):
            np.testing.assert_array_equal(array, expected)
    assert len(calls) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == [norb.RENDERED_FILE]


def test_a_part_is_rendered_without_keeping_it(tmp_path, norb, rendered, monkeypatch):
    monkeypatch.setattr(norb, "render_small_norb", lambda **kwargs: (kwargs["azimuths"],) * 3)
    azimuths, *_, source = norb.small_norb(tmp_path, whole=False)
    assert source == "few rendered"
    assert list(azimuths) == [0, 6, 12]
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / norb.RENDERED_FILE, **dict(zip(norb._ARRAYS, rendered)))
    *_, source = norb.small_norb(tmp_path, whole=False)
    assert source == "rendered"


def test_a_folder_that_takes_no_images_is_named_before_they_are_rendered(
    tmp_path, norb, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(norb, "render_small_norb", None)
    with pytest.raises(SystemExit, match="file cannot take the rendered images: "):
        norb.small_norb(tmp_path / "file")
