"""How sharp a field is: against the definitions, against blur of known width, and whatever its brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from quality_fields import DIAMETER_PX, defocused, field_of
from scipy import ndimage

from hcs_nuclei.measurement.focus import edge_width, laplacian_focus, power_log_log_slope, reach_of


def reference_slope(image: npt.NDArray[Any]) -> float:
    """CellProfiler's PowerLogLogSlope by its definition: the whole spectrum, ring by ring, and a least-squares line."""
    radii = np.arange(image.shape[0])[:, None] ** 2 + np.arange(image.shape[1]) ** 2
    radii = np.minimum(radii, radii[::-1])
    radii = np.minimum(radii, radii[:, ::-1])
    rings = np.arange(2, np.floor(min(image.shape) / 8)).astype(int)
    power = np.abs(np.fft.fft2(image - image.mean())) ** 2
    summed = ndimage.sum(power, np.floor(np.sqrt(radii)).astype(int) + 1, rings)
    line = np.stack([np.log(rings), np.ones(rings.size)], axis=1)
    return float(np.linalg.lstsq(line, np.log(summed), rcond=None)[0][0])


@pytest.mark.parametrize("shape", [(256, 256), (257, 256), (200, 333), (96, 401), (33, 64)])
def test_power_slope_is_cellprofilers(shape: tuple[int, int]) -> None:
    image = np.ascontiguousarray(field_of(3, size=401).images["DAPI"][: shape[0], : shape[1]])
    assert power_log_log_slope(image) == pytest.approx(reference_slope(image.astype(float)), abs=1e-5)


def test_power_slope_of_noise_with_a_known_spectrum() -> None:
    """Amplitude f**-1.5 is power f**-3, over rings whose length grows with f: a slope of -2."""
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512)[None])
    frequency[0, 0] = 1
    noise = np.random.default_rng(0).standard_normal((512, 512))
    image = np.fft.ifft2(np.fft.fft2(noise) * frequency**-1.5).real
    assert power_log_log_slope(image) == pytest.approx(-2, abs=0.1)


@pytest.mark.parametrize("measure", [power_log_log_slope, laplacian_focus])
def test_a_blank_or_tiny_image_has_no_focus(measure: Any) -> None:
    assert np.isnan(measure(np.full((64, 64), 7, np.uint16)))
    assert np.isnan(measure(np.arange(16, dtype=np.uint16).reshape(4, 4)))


@pytest.mark.parametrize("seed", range(4))
def test_every_measure_falls_with_blur(seed: int) -> None:
    field = field_of(seed, nuclei=(20, 60, 100, 40)[seed])
    images = [defocused(field.images["DAPI"], sigma, seed) for sigma in (0, 1, 2, 3, 4, 6)]
    widths = [edge_width(image, field.labels, DIAMETER_PX) for image in images]
    slopes = [power_log_log_slope(image) for image in images]
    laplacians = [laplacian_focus(image) for image in images]
    assert np.all(np.diff(widths) > 0), widths
    assert np.all(np.diff(slopes) < 0), slopes
    assert np.all(np.diff(laplacians) < 0), laplacians


@pytest.mark.parametrize(("factor", "offset"), [(0.25, 0), (4, 0), (1, 1000), (0.5, -30)])
def test_brightness_changes_nothing(factor: float, offset: float) -> None:
    field = field_of(5)
    image = field.images["DAPI"].astype(np.float64)
    other = image * factor + offset
    assert power_log_log_slope(other) == pytest.approx(power_log_log_slope(image), rel=1e-4)
    assert laplacian_focus(other) == pytest.approx(laplacian_focus(image), rel=1e-4)
    assert edge_width(other, field.labels, DIAMETER_PX) == pytest.approx(
        edge_width(image, field.labels, DIAMETER_PX), rel=1e-6
    )


def test_noise_hardly_moves_the_laplacian() -> None:
    """A plain variance of the Laplacian would be ten times as large here: noise is not sharpness."""
    image = ndimage.gaussian_filter(field_of(6).images["DAPI"].astype(np.float64), 1.5)
    noisy = image + np.random.default_rng(0).normal(0, 40, image.shape)
    plain = [ndimage.laplace(i).var() / i.var() for i in (image, noisy)]
    assert plain[1] > 10 * plain[0]
    assert laplacian_focus(noisy) == pytest.approx(laplacian_focus(image), rel=0.15)


def disks(sigma: float, shift_px: int = 0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint32]]:
    """Nine bright disks of radius 20 px, blurred; their labels are drawn `shift_px` too wide."""
    y, x = np.mgrid[:300, :300]
    distance = np.hypot(y % 100 - 50, x % 100 - 50)
    labels = np.where(distance < 20 + shift_px, 1 + y // 100 * 3 + x // 100, 0).astype(np.uint32)
    return ndimage.gaussian_filter(100 + 500.0 * (distance < 20), sigma), labels


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0])
def test_edge_width_of_blurred_disks(sigma: float) -> None:
    """The steepest slope of a step blurred by a Gaussian is 1 / (sigma √2π) of its height.

    Looking at whole pixels, and at slopes over two of them, blurs by another 0.8 px or so.
    """
    assert edge_width(*disks(sigma), 40) == pytest.approx(np.hypot(sigma, 0.8) * np.sqrt(2 * np.pi), rel=0.06)


def test_a_perfect_step_is_two_pixels_wide() -> None:
    assert edge_width(*disks(0), 40) == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize("shift_px", [-2, -1, 1, 2])
def test_edge_width_forgives_an_outline_that_is_off(shift_px: int) -> None:
    assert edge_width(*disks(2, shift_px), 40) == pytest.approx(edge_width(*disks(2), 40), rel=0.1)


def test_touching_nuclei_and_those_at_the_edge_do_not_count() -> None:
    image, labels = disks(2)
    alone = edge_width(image, labels, 40)
    image, labels = image.copy(), labels.copy()
    labels[:, :25] = 100  # a nucleus at the edge, in step with nothing that the image shows
    labels[145:155, 70:230][labels[145:155, 70:230] == 0] = 101  # a bridge from nucleus to nucleus
    assert edge_width(image, labels, 40) == pytest.approx(alone, rel=0.03)


def test_two_nuclei_say_nothing() -> None:
    image, labels = disks(2)
    assert np.isnan(edge_width(image, np.where(labels <= 2, labels, 0).astype(np.uint32), 40))
    assert np.isnan(edge_width(image, np.zeros_like(labels), 40))


def test_crowds_are_thinned_by_nuclei() -> None:
    """So many outlines that not all are looked at give the same width as those of a part of the field."""
    field = field_of(1, nuclei=700, size=1200)
    image = field.images["DAPI"]
    assert edge_width(image, field.labels, DIAMETER_PX) == pytest.approx(
        edge_width(image[:600], np.ascontiguousarray(field.labels[:600]), DIAMETER_PX), rel=0.05
    )


def test_reach_follows_the_nuclei() -> None:
    assert [reach_of(d) for d in (5, 12, 20, 22, 40, 200)] == [3, 3, 5, 6, 10, 10]
