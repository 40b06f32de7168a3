"""The batch of images that naswot runs on: a file, a callable, or noise."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from freerea_patch.errors import InputError
from freerea_patch.imports import import_object

Images = npt.NDArray[np.float32]


def load_batch(spec: str, *, size: int, input_shape: tuple[int, ...], seed: int = 0) -> Images:
    """Return a batch of images.

    Args:
        spec: ``"random"`` for standard normal noise; a path ending in ``.npz`` with an array ``images``
            ``(n, c, h, w)``; or ``pkg.module:callable``, which is called with ``size`` and returns such
            an array (or a tensor, or a pair with labels).
        size: number of images; a file or callable may hold more, and its first ``size`` are taken.
        input_shape: ``(c, h, w)`` of the search space.
        seed: fixes the noise.

    Returns:
        ``(size, c, h, w)`` float32.

    Raises:
        InputError: the file is missing or not an ``.npz``, or lacks ``images``.
        InputError: the array has another shape, fewer images than ``size``, or a NaN.
    """
    if size < 2:
        raise InputError(f"batch size must be at least 2 (naswot compares images), not {size}")
    if spec == "random":
        return np.random.default_rng(seed).standard_normal((size, *input_shape), dtype=np.float32)
    if spec.endswith(".npz"):
        images: Any = _read_npz(Path(spec))
    elif ":" in spec:
        images = _call(spec, size)
    else:
        raise InputError(f"batch {spec!r} is none of: 'random', a file FILE.npz, pkg.module:callable")
    try:
        array = np.asarray(images, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"batch {spec}: expected an array of images, got {type(images).__name__} ({error})") from None
    if array.ndim != 1 + len(input_shape) or array.shape[1:] != tuple(input_shape):
        shape = ", ".join(map(str, input_shape))
        raise InputError(f"batch {spec}: expected images of shape (n, {shape}), got {array.shape}")
    if len(array) < size:
        raise InputError(f"batch {spec}: has {len(array)} images, fewer than the batch size {size}; lower that")
    if not np.isfinite(array[:size]).all():
        raise InputError(f"batch {spec}: contains NaN or infinite values; normalise the images again")
    return np.ascontiguousarray(array[:size])


def batch_digest(images: Images) -> str:
    """Return a hash of a batch's shape and values, for the cache of metric values."""
    return hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()


def _call(spec: str, size: int) -> Any:
    """Return the images that a callable of the user's gives, without their labels."""
    function = import_object(spec, "batch")
    try:
        images = function(size)
    except Exception as error:  # a user's function may raise anything
        message = next(iter(str(error).splitlines()), "")
        raise InputError(f"batch {spec}: called with {size}, it failed ({type(error).__name__}: {message})") from error
    images = images[0] if isinstance(images, (tuple, list)) else images
    return images.detach().cpu() if hasattr(images, "detach") else images


def _read_npz(path: Path) -> Images:
    if not path.is_file():
        raise InputError(f"batch {path}: no such file; expected an .npz with an array 'images'")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "images" not in archive.files:
                raise InputError(f"batch {path}: has no array 'images', only: {', '.join(archive.files) or 'nothing'}")
            return archive["images"]  # type: ignore[no-any-return]
    except InputError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib or numpy, each with its own type
        raise InputError(f"batch {path}: cannot be read as .npz ({error}); save it again with numpy.savez") from None
