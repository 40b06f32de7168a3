"""The batch of images: where it may come from, and what is wrong with one that cannot be used."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from numpy.lib import format as npy

from freerea_patch import InputError
from freerea_patch.training_free import Images, batch_digest, load_batch

SHAPE = (3, 4, 4)
TEN = np.arange(480, dtype=np.float32).reshape(10, *SHAPE)


def save(tmp_path: Path, **arrays: npt.NDArray[Any]) -> str:
    path = tmp_path / "batch.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def load(spec: str, size: int = 4) -> Images:
    return load_batch(spec, size=size, input_shape=SHAPE)


def test_noise_is_standard_normal_and_fixed_by_its_seed() -> None:
    first = load_batch("random", size=200, input_shape=SHAPE, seed=1)
    assert first.shape == (200, *SHAPE)
    assert first.dtype == np.float32
    assert abs(float(first.mean())) < 0.05
    assert float(first.std()) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_array_equal(first, load_batch("random", size=200, input_shape=SHAPE, seed=1))
    assert not np.array_equal(first, load_batch("random", size=200, input_shape=SHAPE, seed=2))


def test_a_file_gives_its_first_images(tmp_path: Path) -> None:
    images = load(save(tmp_path, images=TEN.astype(np.float64), labels=np.arange(10)))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, TEN[:4])


def callable_array(size: int) -> Any:
    return TEN[: size + 1]


def callable_tensor(size: int) -> Any:
    return torch.from_numpy(TEN)


def callable_pair(size: int) -> Any:
    return torch.from_numpy(TEN), torch.arange(10)


def callable_short(size: int) -> Any:
    return TEN[: size - 1]


def callable_text(size: int) -> Any:
    return "no images"


def callable_gradient(size: int) -> Any:
    import torch

    return torch.from_numpy(TEN[:size]).requires_grad_()


def callable_broken(size: int) -> Any:
    raise OSError("the disk\nis gone")


@pytest.mark.parametrize("name", ["callable_array", "callable_tensor", "callable_pair", "callable_gradient"])
def test_a_callable_gives_an_array_a_tensor_or_a_pair_with_labels(name: str) -> None:
    np.testing.assert_array_equal(load(f"{__name__}:{name}"), TEN[:4])


def refusal(spec: str, size: int = 4) -> str:
    with pytest.raises(InputError) as error:
        load(spec, size)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_batch_of_one_image_is_refused() -> None:
    assert refusal("random", size=1) == "batch size must be at least 2, because naswot compares images; got 1"


def test_a_spec_of_another_form_is_refused() -> None:
    assert refusal("images.npy") == "batch: expected 'random', FILE.npz or pkg.module:callable, got 'images.npy'"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file; expected an .npz with an array 'images'" in refusal(str(tmp_path / "none.npz"))


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    assert refusal(save(tmp_path, labels=TEN, x=TEN)).endswith("has no array 'images', only: labels, x")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = Path(save(tmp_path, images=TEN))
    path.write_bytes(path.read_bytes()[:300])
    assert "cannot be read as .npz (" in refusal(str(path))


def test_no_more_images_are_read_than_are_used(tmp_path: Path) -> None:
    path = tmp_path / "batch.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as file:
        npy.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (2**17, *SHAPE)})
        for _ in range(2**17 // 1024):
            file.write(bytes(1024 * 48 * 8))
    tracemalloc.start()
    try:
        assert load(str(path)).shape == (4, *SHAPE)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((10**30, *SHAPE), "cannot be read as .npz ("),
        ((4, 3, 10**9, 10**8), "expected images of shape (n, 3, 4, 4), got (4, 3, 1000000000, 100000000)"),
        ((2**20, *SHAPE), "cannot be read as .npz ("),
        ((), "cannot be read as .npz ("),
    ],
)
def test_a_shape_that_is_declared_costs_no_memory(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    path = tmp_path / "batch.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as file:
        npy.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    assert message in refusal(str(path))


def test_pickled_images_are_refused(tmp_path: Path) -> None:
    objects = np.empty(10, dtype=object)
    objects[:] = list(TEN)
    assert "cannot be read as .npz (" in refusal(save(tmp_path, images=objects))


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    message = refusal(save(tmp_path, images=TEN.transpose(0, 2, 3, 1)))
    assert message.endswith("expected images of shape (n, 3, 4, 4), got (10, 4, 4, 3)")


def test_a_single_image_is_refused(tmp_path: Path) -> None:
    assert refusal(save(tmp_path, images=TEN[0])).endswith("expected images of shape (n, 3, 4, 4), got (3, 4, 4)")


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    assert "has 10 images, fewer than the batch size 64" in refusal(save(tmp_path, images=TEN), size=64)
    assert "has 3 images, fewer than the batch size 4" in refusal(f"{__name__}:callable_short")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_images_with_values_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    spoilt = TEN.copy()
    spoilt[2, 0, 0, 0] = bad
    assert "contains NaN or infinite values; normalise the images again" in refusal(save(tmp_path, images=spoilt))
    assert len(load(save(tmp_path, images=spoilt[3:]))) == 4


def test_a_callable_that_fails_is_refused() -> None:
    assert "called with 4, it failed (OSError: the disk)" in refusal(f"{__name__}:callable_broken")


def test_a_callable_that_gives_no_array_is_refused() -> None:
    assert "expected an array of images, got str" in refusal(f"{__name__}:callable_text")


def test_a_callable_that_is_not_there_is_refused() -> None:
    assert "has no 'nothing'" in refusal(f"{__name__}:nothing")
    assert "cannot import 'no_such_module'" in refusal("no_such_module:batch")


def test_a_digest_follows_values_and_shape() -> None:
    digest = batch_digest(TEN)
    assert digest == batch_digest(TEN.copy())
    assert digest != batch_digest(TEN[::-1].copy())
    assert digest != batch_digest(TEN.reshape(5, 6, 4, 4))
