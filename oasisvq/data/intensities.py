"""Brings the ground of an image to 0 before anything is clipped, and knows label maps."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from oasisvq.core.errors import VolumeError

THIN = 0.25  # an axis shorter than this share of the longest one has no border of ground
# Shares of the full scale, which is the 99.8th percentile above the ground.
NARROW = 0.1  # widest half of a border that is ground, and not head
FAINT = 0.02  # what is nearer to the ground is noise
RINGING = 0.05  # interpolation at a sharp edge seldom reaches further below the ground
MOST_BELOW = 0.01  # share of the head's voxels that may; splines of real brains: 0.005 at most
MOST_RINGING = 0.1  # the same where ringing is seen, as around small heads with sharp edges
FAR_BELOW = 0.4  # of the scale above the darkest true value; padding is further below it
SIGNED = (127.0, 32767.0)  # the largest int8 and int16
# For label maps; see `looks_like_labels`.
FEW_LABELS, MANY_LABELS = 5, 512
EQUAL_NEIGHBOURS, NEXT_LEVEL = 0.7, 0.85
SAMPLE, SURELY_UNEQUAL = 2**15, 0.5
COMPACT = 0.05  # share of its box that a parcel fills: 0.3; a grey level of a brain: below 0.01


def ground_at_zero(
    voxels: np.ndarray, name: object, border: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """Returns intensities of at least 0 whose ground, what is outside the head, is 0.

    Args:
        voxels: Float32 array of any shape, in the scale of its file.
        name: What messages call it.
        border: The values at its edges. Default: those on its faces.

    Returns:
        The array, the same one if nothing had to be done; and a note on what was done, or `""`.

    Raises:
        VolumeError: If voxels are infinite, if some of the head are NaN, or if many are negative
            and no ground is seen.
    """
    border = border_values(voxels) if border is None else border
    low, high = (float(voxels.min()), float(voxels.max())) if voxels.size else (0.0, 0.0)
    if low >= 0 and high < np.inf and np.mean(border == 0) >= 0.5:
        return voxels, ""
    if np.isinf(voxels).any():
        raise VolumeError(f"{name}: holds infinite voxels. {_REPAIR}")
    missing = np.isnan(voxels)
    notes = []
    if missing.any():
        at_border, everywhere = np.isnan(border).mean(), missing.mean()
        if everywhere == 1 or at_border < min(1.2 * everywhere, 0.99):
            raise VolumeError(f"{name}: holds NaN voxels that are not its ground. {_REPAIR}")
        notes.append(f"{everywhere:.0%} of its voxels, outside of the head, are NaN and became 0")
    padding, above = _padding(_known(voxels, missing), border)
    if padding < above:
        voxels, border = (np.where(x == padding, above, x) for x in (voxels, border))
        notes.append(f"its padding of {padding:.4g} became {above:.4g}, the next value")
    shifted, note = _shifted(voxels, missing, border, name)
    text = "; ".join([*notes, *filter(None, [note])])
    return shifted, f"{name}: {text}" if text else ""


_REPAIR = "Repair the file, or take it out of the folder"


def border_values(voxels: np.ndarray) -> np.ndarray:
    """Returns the values `(n,)` on the faces of a volume or slice; thin axes have no face."""
    longest = max(voxels.shape, default=0)
    axes = [axis for axis, size in enumerate(voxels.shape) if size > max(1, THIN * longest)]
    faces = [voxels.take(end, axis=axis).ravel() for axis in axes for end in (0, -1)]
    return np.concatenate(faces) if faces else voxels.ravel()


def _shifted(
    voxels: np.ndarray, missing: np.ndarray, border: np.ndarray, name: object
) -> tuple[np.ndarray, str]:
    """Returns finite voxels with the ground at 0, and a note, see `ground_at_zero`."""
    finite = _known(voxels, missing)
    masked = np.isnan(border).mean() >= 0.5  # what is not NaN is the head
    border = np.zeros(1) if masked else border[~np.isnan(border)]
    if masked:
        ground, width, inside = 0.0, 0.0, ~missing
    else:
        ground, width = _ground(border, finite)
        inside = ~missing & (voxels != ground)
    values = voxels[inside]
    if not values.size:
        return np.where(missing, ground, voxels) if missing.any() else voxels, ""
    if _is_wrapped(values, ground):
        limit = next(limit for limit in SIGNED if values.max() <= limit)
        unwrapped = np.where(voxels < 0, voxels + 2 * (limit + 1), voxels)
        return np.where(missing, 0, unwrapped).astype(np.float32), (
            "unsigned integers stored as signed ones: negative voxels were raised by "
            f"{2 * (limit + 1):.0f}"
        )
    if _is_noise_below(values, ground, width):
        result, note = voxels - np.float32(ground), f"its ground of {ground:.4g} became 0"
        clipped = np.mean(result[~missing] < 0)
        if clipped:
            deepest = float(finite.min())
            note = f"{note} and " if ground else ""
            note += f"{clipped:.1%} of the voxels, noise down to {deepest:.4g}, became 0"
        elif not ground:
            note = ""
        return np.where(missing, 0, result.clip(0)), note
    if width:
        if finite.min() >= 0:
            return np.where(missing, 0, voxels), "its ground is brighter than the head and stays"
        raise VolumeError(
            f"{name}: {np.mean(finite < 0):.0%} of its voxels are negative, and no even ground is "
            "seen that could become 0. Save it with intensities from 0 up"
        )
    return _head_above_zero(voxels, inside, values, ground)


def _known(voxels: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Returns the voxels that are not missing: without a copy if none is."""
    return voxels[~missing] if missing.any() else voxels


def _padding(finite: np.ndarray, border: np.ndarray) -> tuple[float, float]:
    """Returns the value that stands for no data, and the darkest true one; the same if none does.

    It is negative, lies at the border, and far below all others.
    """
    low = finite.min(initial=0)
    if low == 0 or not np.any(border == low):
        return 0.0, 0.0
    others = finite[finite > low]
    if not others.size:
        return 0.0, 0.0
    above, top = others.min(), np.percentile(others, 99.8)
    # In double precision: the largest float32 padding would be infinitely far away.
    far = float(above) - float(low) > FAR_BELOW * (float(top) - float(above))
    return (low, above) if far and top > above else (0.0, 0.0)


def _is_noise_below(values: np.ndarray, ground: float, width: float) -> bool:
    """Returns whether what is darker than the ground is noise, and not a part of the head."""
    differences = values - ground
    scale = max(float(np.percentile(differences, 99.8)), 0.0)
    noise = max(RINGING * scale, 4 * width if width < np.inf else 0.0)
    head = np.abs(differences) > FAINT * scale
    share = np.sum(differences < -noise) / max(head.sum(), 1)
    # Around a mask there is nothing but the ground; ringing ebbs away into it.
    ebbing = np.mean(np.abs(differences) < FAINT / 4 * scale) > 0.2
    return bool(share <= (MOST_RINGING if ebbing else MOST_BELOW))


def _head_above_zero(
    voxels: np.ndarray, inside: np.ndarray, values: np.ndarray, ground: float
) -> tuple[np.ndarray, str]:
    """Returns a head whose mask's ground lies amid its intensities, moved above that ground."""
    first, last = np.percentile(values, [1, 99])
    # One odd voxel far below the others is no floor.
    floor = max(float(values.min()), float(first - (last - first) / 2))
    note = f"its ground of {ground:.4g} is not darker than the head: it became 0, and so did the "
    note += f"head's darkest value, {floor:.4g}"
    clipped = np.mean(values < floor)
    if clipped:
        note += f", with the {clipped:.2%} below it"
    return np.where(inside, (voxels - np.float32(floor)).clip(0), 0).astype(np.float32), note


def _ground(border: np.ndarray, finite: np.ndarray) -> tuple[float, float]:
    """Returns the intensity of the ground, and the width of the half of the border that it fills.

    The ground is the middle of the shortest interval with half of the border in it. It counts as 0
    where it is the noise of a scanner, which begins at 0, or where there is none to be seen.
    """
    values = np.sort(border)
    half = (len(values) + 1) // 2
    widths = values[half - 1 :] - values[: len(values) - half + 1]
    start = int(widths.argmin())
    ground, width = float(values[start + (half - 1) // 2]), float(widths[start])
    scale = float(np.percentile(finite, 99.8) - ground)
    if width and width > NARROW * scale:
        return 0.0, np.inf
    faint = abs(ground) < FAINT * np.percentile(finite, 99.8) or 0 <= ground < 4 * width
    if faint and not (width == 0 and finite.min() == ground):
        return 0.0, width
    return ground + 0.0, width


def _is_wrapped(values: np.ndarray, ground: float) -> bool:
    """Returns whether a head's brightest voxels are unsigned integers read as signed ones.

    Then the intensities run up to the largest signed integer and go on at the most negative one,
    and most negative ones are nearer to that than to 0.
    """
    low, high = values.min(), values.max()
    return any(
        0 <= ground < 0.1 * limit
        and 0.98 * limit <= high <= limit
        and -limit - 1 <= low <= -0.98 * limit
        and np.median(values[values < 0]) < -0.5 * limit
        and bool(np.all(values == np.round(values)))
        for limit in SIGNED
    )


def ground_pictures(pictures: Sequence[np.ndarray], name: object) -> tuple[list[np.ndarray], str]:
    """Brings the ground of a scan's pictures `(H, W)` to 0, see `ground_at_zero`, all alike."""
    values = np.concatenate([picture.ravel() for picture in pictures])
    border = np.concatenate([border_values(picture) for picture in pictures])
    shapes = [picture.shape for picture in pictures]
    del pictures  # so that they do not stay in memory beside their copy
    grounded, note = ground_at_zero(values, name, border)
    ends = np.cumsum([height * width for height, width in shapes])[:-1]
    parts = np.split(grounded, ends)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)], note


def looks_like_labels(voxels: np.ndarray, most: int | None = None) -> bool:
    """Returns whether a volume or a picture is a label map or a mask, whatever its name.

    Its values are few; most neighbours that are both foreground have the same one, and those that
    differ seldom have neighbouring ones, as the grey levels of a coarse picture do. Up to five
    values are never a brain. Many values are labels only if each is in one place, as those of a
    parcellation are. Labels interpolated to values between them are not recognised.

    Args:
        voxels: Array of one to three axes, with the intensities of its file.
        most: The largest number of values of a label map. Default: any.
    """
    stride = max(1, round((voxels.size / SAMPLE) ** (1 / voxels.ndim)))
    sample = voxels[(slice(None, None, stride),) * voxels.ndim]
    if not np.isfinite(sample).all():
        return False
    found, counts = np.unique(sample, return_counts=True)
    if len(found) > FEW_LABELS:  # most brains are known by a small part of them
        pairs, equal, _ = _steps(voxels, found[counts.argmax()], stride)
        if equal < SURELY_UNEQUAL * pairs:
            return False
    values, counts = np.unique(voxels, return_counts=True)
    if len(values) < 2:
        return False
    if len(values) <= FEW_LABELS:
        return True
    if len(values) > (most or len(values)) or not np.array_equal(values, np.round(values)):
        return False
    levels = np.searchsorted(values, voxels).astype(np.int32)
    pairs, equal, next_level = _steps(levels, int(counts.argmax()))
    if equal < EQUAL_NEIGHBOURS * pairs or next_level > NEXT_LEVEL * (pairs - equal):
        return False
    return len(values) <= MANY_LABELS or _are_compact(levels, counts)


def _are_compact(levels: np.ndarray, counts: np.ndarray) -> bool:
    """Returns whether most levels fill a good part of the box that each lies in."""
    boxes = ndimage.find_objects(levels + 1)
    sizes = [np.prod([side.stop - side.start for side in box]) for box in boxes]
    return bool(np.median(counts / sizes) > COMPACT)


def _steps(levels: np.ndarray, ground: float, stride: int = 1) -> tuple[int, int, int]:
    """Returns how many neighbours are both not ground, are equal, and differ by 1.

    Only every `stride`-th pair is looked at.
    """
    pairs = equal = next_level = 0
    for axis, size in enumerate(levels.shape):
        places = [slice(None, None, stride)] * levels.ndim
        places[axis] = slice(0, size - 1, stride)
        first = levels[tuple(places)]
        places[axis] = slice(1, size, stride)
        second = levels[tuple(places)]
        both = (first != ground) & (second != ground)
        steps = np.abs(first[both] - second[both])
        pairs += steps.size
        equal += int(np.count_nonzero(steps == 0))
        next_level += int(np.count_nonzero(steps == 1))
    return pairs, equal, next_level
