"""X-ray physics, tomography and shapes of the body phantoms, held against closed forms and libraries."""

import numpy as np
import pytest
from scipy import ndimage

from medlab.phantoms import computed, shapes, xray


def _disk(n, radius, center=(0.0, 0.0)):
    x, y = np.indices((n, n)) - (n - 1) / 2
    return ndimage.gaussian_filter((np.hypot(x - center[0], y - center[1]) < radius).astype(float), 0.7)


# -- attenuation -----------------------------------------------------------------------------------------------------


def test_a_slab_attenuates_as_beer_and_lambert_say():
    # 10 cm of water and 1 cm of cortical bone, by hand for two of the six energies of one spectrum.
    weights = dict(zip(xray.ENERGIES, xray.SPECTRA["120 kV"], strict=True))
    expected = sum(
        weights[energy] * np.exp(-(water * 10.0 + bone * 1.92))
        for energy, water, bone in (
            (30, 0.3756, 1.331), (40, 0.2683, 0.6655), (50, 0.2269, 0.4242),
            (60, 0.2059, 0.3148), (80, 0.1837, 0.2229), (100, 0.1707, 0.1855),
        )
    )  # fmt: skip
    assert xray.transmission({"water": 10.0, "bone": 1.92}, "120 kV") == pytest.approx(expected, rel=1e-5)


def test_spectra_are_shares_and_harder_ones_pass_more():
    passed = []
    for name, weights in xray.SPECTRA.items():
        assert sum(weights) == pytest.approx(1), name
        assert xray.transmission({"water": 0.0}, name) == pytest.approx(1)
        passed.append(float(xray.transmission({"water": 20.0}, name)))
    assert passed == sorted(passed)  # the table is in the order of the tube's peak


def test_a_beam_hardens():
    thin, thick = (-np.log(xray.transmission({"water": depth}, "100 kV")) / depth for depth in (0.01, 30.0))
    assert thin == pytest.approx(xray.effective("water", "100 kV"), rel=1e-3)
    assert thick < 0.95 * thin


def test_hounsfield_units_have_their_fixed_points():
    units = xray.hounsfield({"water": np.array([0.0, 1.0, 0.5, 2.0])}, "100 kV")
    np.testing.assert_allclose(units, [-1000, 0, -500, 1000], atol=1e-3)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"material of water, bone, iodine. Received 'lead'"):
        xray.transmission({"lead": 1.0}, "120 kV")
    with pytest.raises(ValueError, match=r"spectrum of .*Received '90 kV'"):
        xray.transmission({"water": 1.0}, "90 kV")
    with pytest.raises(ValueError, match="at least one material"):
        xray.transmission({}, "120 kV")


def test_photon_noise_is_poisson_and_scatter_lowers_contrast():
    paths = {"water": np.full((200, 200), 10.0)}
    mean = float(xray.transmission({"water": 10.0}, "120 kV"))
    counts = xray.expose(paths, "120 kV", photons=1000, scatter=0, reach=5, rng=np.random.default_rng(0)) * 1000
    assert counts.mean() == pytest.approx(1000 * mean, rel=0.01)
    assert counts.var() == pytest.approx(1000 * mean, rel=0.05)  # 40,000 pixels: deviation 0.7 %
    edge = {"water": np.repeat([[5.0], [10.0]], 100, 0) * np.ones(200)}
    contrast = []
    for scatter in (0.0, 1.0):
        seen = xray.expose(edge, "120 kV", photons=1e9, scatter=scatter, reach=30, rng=np.random.default_rng(0))
        contrast.append(np.log(seen[95].mean() / seen[105].mean()))
    assert contrast[1] < 0.75 * contrast[0]


def test_no_photon_still_has_a_logarithm():
    counts = xray.expose(
        {"water": np.full((4, 4), 500.0)}, "55 kV", photons=10, scatter=0, reach=1, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(counts, 0.05)


def test_a_shown_radiograph_does_not_depend_on_the_exposure():
    counts = 0.1 + np.random.default_rng(0).random((60, 60))
    shown = [xray.present(c, reach=5, detail=1.2, spread=0.3, middle=0.45) for c in (counts, 7 * counts)]
    assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1
    assert shown[0].max() > shown[0].min()


# -- tomography ------------------------------------------------------------------------------------------------------


def test_projections_are_those_of_a_rotated_image():
    rng = np.random.default_rng(0)
    n = 64
    image = _disk(n, 20, (3, -5)) + 0.7 * _disk(n, 6, (-10, 9)) + 0.3 * _disk(n, 4, (rng.uniform(-8, 8), 14))
    found = computed.project(image[..., None])[..., 0]
    t, along = np.indices((n, n)) - (n - 1) / 2
    first = (computed.cells(n) - n) / 2
    for view in range(0, computed.views(n), 7):
        angle = np.pi * view / computed.views(n)
        x, y = t * np.cos(angle) - along * np.sin(angle), t * np.sin(angle) + along * np.cos(angle)
        expected = ndimage.map_coordinates(image, [x + (n - 1) / 2, y + (n - 1) / 2], order=3).sum(1)
        seen = np.interp(np.arange(n) + first, np.arange(computed.cells(n)), found[view])
        assert np.abs(seen - expected).max() < 0.03 * expected.max()


def test_back_projection_returns_the_image_and_agrees_with_scikit_image():
    from skimage.transform import iradon

    n = 65  # odd, so that both have a pixel in the middle
    image = _disk(n, 20, (3, -5)) + 0.7 * _disk(n, 6, (-10, 9))
    sinogram = computed.project(image[..., None])
    found = computed.back_project(sinogram, n)[..., 0]
    assert np.abs(found - image).mean() < 0.01
    # scikit-image takes (cells, angles), and its rows run the other way.
    angles = 180 * np.arange(computed.views(n)) / computed.views(n)
    theirs = iradon(sinogram[..., 0].T, theta=angles, output_size=n, circle=False)[::-1].T
    assert np.abs(found - theirs).max() < 0.02


def test_water_is_zero_and_air_is_minus_a_thousand_after_reconstruction():
    water, rng = _disk(96, 36), np.random.default_rng(0)
    for spectrum in ("100 kV", "120 kV", "140 kV"):
        for kernel in computed.KERNELS:
            units = computed.scan(water, 0 * water, 3.0, spectrum=spectrum, photons=0, kernel=kernel, rng=rng)
            x, y = np.indices(water.shape) - 47.5
            far = np.hypot(x, y)
            assert units[far < 30].mean() == pytest.approx(0, abs=3)
            assert np.abs(units[far < 30]).max() < 15  # no cupping
            assert units[(far > 41) & (far < 47)].mean() == pytest.approx(-1000, abs=8)


def test_bone_is_brighter_than_water_by_its_attenuation():
    water = _disk(96, 36)
    inner = _disk(96, 8)
    units = computed.scan(
        water * (1 - inner),
        1.92 * inner,
        2.0,
        spectrum="120 kV",
        photons=0,
        kernel="soft",
        rng=np.random.default_rng(0),
    )
    x, y = np.indices(water.shape) - 47.5
    # A hardened beam shows less than a thin layer, but not less than photons of the highest energy would.
    thin = float(xray.hounsfield({"bone": 1.92}, "120 kV"))
    hardest = 1000 * (1.92 * 0.1855 / 0.1707 - 1)
    assert hardest + 100 < units[np.hypot(x, y) < 4].mean() < thin - 100


def test_fewer_photons_more_noise_and_a_sharp_kernel_more():
    water = _disk(64, 24)
    x, y = np.indices(water.shape) - 31.5
    middle = np.hypot(x, y) < 15

    def noise(photons, kernel):
        rng = np.random.default_rng(1)
        return computed.scan(
            water, 0 * water, 4.0, spectrum="120 kV", photons=photons, kernel=kernel, rng=rng
        )[middle].std()  # fmt: skip

    assert noise(2.5e4, "soft") == pytest.approx(2 * noise(1e5, "soft"), rel=0.15)
    assert noise(1e5, "sharp") > 1.5 * noise(1e5, "soft")


def test_a_stack_of_slices_is_its_slices():
    rng = np.random.default_rng(0)
    water, bone = rng.random((2, 32, 32, 3))
    settings = {"spectrum": "120 kV", "photons": 0, "kernel": "soft", "rng": rng}
    whole = computed.scan(water, bone, 5.0, **settings)
    for k in range(3):
        np.testing.assert_allclose(whole[..., k], computed.scan(water[..., k], bone[..., k], 5.0, **settings), atol=0.1)
    with pytest.raises(ValueError, match="square slices"):
        computed.scan(water[:20], bone[:20], 5.0, **settings)
    with pytest.raises(ValueError, match=r"kernel of soft, sharp. Received 'medium'"):
        computed.scan(water, bone, 5.0, **(settings | {"kernel": "medium"}))


def test_grain_has_deviation_one_and_little_power_at_low_frequencies():
    for shape in ((64, 64, 8), (96, 80)):
        noise = computed.grain(shape, np.random.default_rng(0))
        assert noise.shape == shape
        assert noise.std() == pytest.approx(1, rel=1e-3)
    power = (np.abs(np.fft.fft2(computed.grain((64, 64, 8), np.random.default_rng(0)), axes=(0, 1))) ** 2).mean(-1)
    far = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    assert power[far < 0.04].mean() < 0.4 * power[(far > 0.12) & (far < 0.22)].mean()


# -- shapes ----------------------------------------------------------------------------------------------------------


def _rays(angle=0.0, n=41):
    axis = np.linspace(-30, 30, n).astype(np.float32)
    return shapes.Rays(axis, axis, angle)


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_a_ray_through_a_ball_is_as_long_as_its_chord(angle):
    rays = _rays(angle)
    low, high = shapes.Ellipsoid.from_axes((0, 0, 4), (20, 20, 20)).cross(rays)
    square = 400 - rays.x[:, None] ** 2 - (rays.z[None, :] - 4) ** 2
    np.testing.assert_allclose(high - low, 2 * np.sqrt(np.maximum(square, 0)), atol=2e-2)


def test_rays_of_a_turned_patient_meet_a_shape_where_it_is():
    shape = shapes.Ellipsoid.from_axes((6, -3, 2), (18, 9, 12))
    rays = _rays(0.4)
    low, high = shape.cross(rays)
    for ends in (low, high):
        hit = (high - low) > 1
        x, y = rays.at(ends)
        z = np.broadcast_to(rays.z[None, :], ends.shape)
        away = np.stack([x, y, z], -1)[hit] - shape.center
        np.testing.assert_allclose(np.einsum("ni,ij,nj->n", away, shape.matrix, away), 1, atol=1e-3)
    # Seen at a right angle to the rays it is as wide as its reach says.
    seen = np.array([np.cos(0.4), -np.sin(0.4), 0])
    widest = rays.x[((high - low) > 0).any(1)]
    assert widest.max() == pytest.approx(shape.center @ seen + shape.reach(seen), abs=1.6)


def test_a_stack_of_equal_ellipses_is_a_pillar():
    stack = shapes.Stack(np.array([-10.0, 10.0]), np.array([[3, 3], [-2, -2], [8, 8], [5, 5]], float))
    rays = _rays()
    low, high = stack.cross(rays)
    expected = 2 * 5 * np.sqrt(np.maximum(1 - ((rays.x[:, None] - 3) / 8) ** 2, 0)) * (np.abs(rays.z) <= 10)
    np.testing.assert_allclose(high - low, expected, atol=5e-3)
    left, right = stack.edges(np.pi / 2, np.array([0.0]))  # seen from the side: y takes the place of x
    assert (left[0], right[0]) == pytest.approx((2 - 5, 2 + 5), abs=1e-5)


def test_distances_are_zero_on_the_surface_and_grow_outward():
    ball = shapes.Ellipsoid.from_axes((1, 2, 3), (10, 10, 10))
    x, y, z = np.ix_(*(np.array([c, c + 10, c + 17], np.float32) for c in (1, 2, 3)))
    found = ball.distance(x, y, z)
    assert found[1, 0, 0] == pytest.approx(0, abs=1e-3)
    assert found[0, 0, 2] == pytest.approx(7, abs=1e-3)
    assert found[1, 1, 0] == pytest.approx(np.hypot(10, 10) - 10, abs=1e-3)


def test_union_counts_what_overlaps_once():
    def interval(low, high):
        return np.full((1, 1), low), np.full((1, 1), high)

    parts = [interval(5.0, 9.0), interval(0.0, 4.0), interval(3.0, 6.0), interval(20.0, 20.0), interval(12.0, 13.0)]
    assert shapes.union_length(parts)[0, 0] == pytest.approx(10)
    assert shapes.union_length([shapes.clip(one, interval(2.0, 5.5)) for one in parts])[0, 0] == pytest.approx(3.5)


def test_rods_keep_their_volume_and_their_shadow_is_their_mass():
    rod = shapes.Rods(np.array([[0.0, 0, -15]]), np.array([[0.0, 0, 15]]), np.array([[4.0, 4.0]]))
    axis = np.arange(-25, 25.5, 1.0).astype(np.float32)
    volume = np.pi * 16 * 30 + 4 / 3 * np.pi * 64
    assert rod.fill((axis, axis, axis), 1.0).sum() == pytest.approx(volume, rel=0.03)
    # Across the middle, the shadow's integral is the area of the section, thick or thinner than a pixel.
    for radius in (4.0, 0.4):
        thin = shapes.Rods(rod.start, rod.end, np.full((1, 2), radius))
        shadow = thin.shadow(shapes.Rays(axis, axis))
        assert shadow[:, 25].sum() == pytest.approx(np.pi * radius**2, rel=0.15)
    # A rod along the rays is as long as it is.
    along = shapes.Rods(np.array([[0.0, -12, 0]]), np.array([[0.0, 12, 0]]), np.array([[3.0, 3.0]]))
    assert along.shadow(shapes.Rays(axis, axis)).max() == pytest.approx(24 + 6, rel=0.1)
