"""Compares our matching with StarDist's on random label pairs; not a part of the test suite, for it needs StarDist.

In an environment of its own, from the root of the repository (StarDist's networks are not needed, so neither is what
they depend on)::

    python3.11 -m venv independent-env
    independent-env/bin/pip install numpy scipy numba tqdm scikit-image six
    independent-env/bin/pip install --no-deps stardist csbdeep
    independent-env/bin/python tests/independent/compare_matching.py [--pairs 50] [--seed 0]

Exit status 0 where everything agrees: counts exactly, ratios to 1e-9. One difference is a convention and checked as
one: where there is nothing to find and nothing was found, we say 1 and StarDist says 0.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from stardist import matching as stardist

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from segmentation_samples import crowded_scene  # noqa: E402

Labels = npt.NDArray[np.int32]
#: Below 0.5 nuclei compete for one another, so the assignment has to be solved.
THRESHOLDS_OF_COMPETITION = (0.05, 0.1, 0.2, 0.3, 0.4)
TOLERANCE = 1e-9
#: Kaggle asks for more than τ, StarDist for τ and more. An IoU above τ = k / 20 whose union is at most the image's
#: 16,384 px is so by at least 1 / (20 × 16,384) = 3e-6, which is more than this; float32, in which StarDist holds IoUs,
#: is finer.
JUST_ABOVE = 1e-6


def our_matching() -> ModuleType:
    """`hcs_nuclei.training.matching` on its own: its package would want TensorFlow."""
    path = ROOT / "hcs_nuclei" / "training" / "matching.py"
    spec = importlib.util.spec_from_file_location("our_matching", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def scene(rng: np.random.Generator) -> Labels:
    """128 × 128 px, crowded: half of the nuclei touch another."""
    return crowded_scene(rng, (128, 128), (3, 12), int(rng.integers(5, 60)))


def shifted(truth: Labels, rng: np.random.Generator) -> Labels:
    """All nuclei by the same 0 to 3 px: IoU over the whole range, and overlaps with neighbours."""
    return np.roll(truth, rng.integers(-3, 4, 2), (0, 1))


def resized(truth: Labels, rng: np.random.Generator) -> Labels:
    """Every outline one or two pixels too far out or in."""
    size = int(rng.choice([3, 5]))
    grown = ndimage.grey_dilation(truth, (size, size))
    inside = ndimage.grey_erosion(truth, (size, size))
    return np.where(truth > 0, truth, grown) if rng.random() < 0.5 else inside


def split(truth: Labels, rng: np.random.Generator) -> Labels:
    """About half of the nuclei cut in two by a straight line, some of them down the middle."""
    found = truth.copy()
    y = np.indices(truth.shape)[0]
    for number in np.unique(truth)[1:]:
        if rng.random() < 0.5:
            nucleus = truth == number
            height = np.quantile(y[nucleus], rng.choice([0.3, 0.5]))
            found[nucleus & (y > height)] = truth.max() + number
    return found


def merged(truth: Labels, rng: np.random.Generator) -> Labels:
    """Nuclei in one another's reach have one number, two or more together."""
    partner = np.arange(truth.max() + 1)
    for number in np.unique(truth)[1:]:
        near = np.unique(truth[ndimage.binary_dilation(truth == number, iterations=2)])
        near = near[(near > 0) & (near != number)]
        if near.size and rng.random() < 0.6:
            partner[number] = partner[rng.choice(near)]
    return partner[truth].astype(np.int32)


def strewn(truth: Labels, rng: np.random.Generator) -> Labels:
    """Another scene: what overlaps does so by chance."""
    return scene(rng)


def missed(truth: Labels, rng: np.random.Generator) -> Labels:
    """A third missing, numbers with gaps and out of order, and shifted."""
    numbers = np.append(0, rng.permutation(5000)[: truth.max()] + 1)
    numbers[1:][rng.random(truth.max()) < 1 / 3] = 0
    return shifted(numbers[truth].astype(np.int32), rng)


def exact(truth: Labels, rng: np.random.Generator) -> Labels:
    """Runs of 20 px that overlap by 9 to 20: IoU of exactly each threshold. `truth` is not used: see `pair`."""
    found = np.zeros_like(truth)
    for row, length in enumerate(rng.integers(9, 21, truth.shape[0])):
        found[row, :length] = row + 1
    return found


def runs(truth: Labels, rng: np.random.Generator) -> Labels:
    """Every row cut into runs of 12 px on average: all compete, and the best pair may cost two others. See `pair`."""
    starts = rng.random(truth.shape) < 0.08
    starts[:, 0] = True
    return np.cumsum(starts).reshape(truth.shape).astype(np.int32)


def empty(truth: Labels, rng: np.random.Generator) -> Labels:
    """Nothing."""
    return np.zeros_like(truth)


KINDS: tuple[Callable[[Labels, np.random.Generator], Labels], ...] = (
    shifted,
    resized,
    split,
    merged,
    strewn,
    missed,
    exact,
    runs,
    empty,
)


def pair(number: int, rng: np.random.Generator) -> tuple[str, Labels, Labels]:
    """The `number`-th pair: its kind, the truth and what was found; every other pair of a kind is swapped."""
    kind = KINDS[number % len(KINDS)]
    turn = number // len(KINDS)
    truth = scene(rng)
    if kind is exact:
        truth = np.zeros_like(truth)
        truth[:, :20] = np.arange(1, truth.shape[0] + 1)[:, None]
    elif kind is runs:
        truth = runs(truth, rng)
    elif kind is empty and turn % 3 == 2:
        truth = np.zeros_like(truth)
    found = kind(truth, rng)
    return (kind.__name__, found, truth) if turn % 2 else (kind.__name__, truth, found)


class Tally:
    """What was compared and what differed."""

    def __init__(self) -> None:
        self.compared: dict[str, int] = {}
        self.differences: list[str] = []

    def check(self, what: str, where: str, ours: float, theirs: float, tolerance: float = 0.0) -> None:
        self.compared[what] = self.compared.get(what, 0) + 1
        if not abs(ours - theirs) <= tolerance:
            self.differences.append(f"{what}, {where}: {ours!r} here, {theirs!r} in StarDist")


def compare(pairs: list[tuple[str, Labels, Labels]], ours: Any) -> Tally:
    """Every count and ratio of every pair at every threshold, then those over all pairs."""
    tally = Tally()
    ious = [ours.iou_matrix(truth, found) for _, truth, found in pairs]
    nothing = [not truth.any() and not found.any() for _, truth, found in pairs]
    for threshold in (*THRESHOLDS_OF_COMPETITION, *ours.THRESHOLDS):
        for number, ((kind, truth, found), iou) in enumerate(zip(pairs, ious, strict=True)):
            where = f"pair {number} ({kind}) at {threshold}"
            mine, other = ours.match(iou, threshold), stardist.matching(truth, found, thresh=threshold)
            tally.check("tp", where, mine.true_positive, other.tp)
            tally.check("fp", where, mine.false_positive, other.fp)
            tally.check("fn", where, mine.false_negative, other.fn)
            for name, value in (("accuracy", mine.average_precision), ("f1", mine.f1)):
                if nothing[number]:
                    tally.check(
                        f"{name} of nothing in nothing: 1 here, 0 there", where, value - 1, getattr(other, name)
                    )
                else:
                    tally.check(name, where, value, getattr(other, name), TOLERANCE)
    some = [index for index, none in enumerate(nothing) if not none]
    some_ious = [ious[index] for index in some]
    truths, founds = [pairs[index][1] for index in some], [pairs[index][2] for index in some]
    kaggle = []
    for threshold in ours.THRESHOLDS:
        pooled, mean, strict = (
            stardist.matching_dataset(truths, founds, thresh=at, by_image=by_image, show_progress=False)
            for at, by_image in ((threshold, False), (threshold, True), (threshold + JUST_ABOVE, True))
        )
        kaggle.append(strict.accuracy)
        where = f"at {threshold}"
        matches = [ours.match(iou, threshold) for iou in some_ious]
        total = sum(matches, ours.Matches(0, 0, 0))
        pooled_ap = ours.pooled_average_precision(some_ious, threshold)
        mean_ap = ours.mean_average_precision(some_ious, threshold)
        tally.check("pooled accuracy", where, pooled_ap, pooled.accuracy, TOLERANCE)
        tally.check("pooled f1", where, total.f1, pooled.f1, TOLERANCE)
        tally.check("mean accuracy over images", where, mean_ap, mean.accuracy, TOLERANCE)
        tally.check("mean f1 over images", where, float(np.mean([m.f1 for m in matches])), mean.f1, TOLERANCE)
    theirs = float(np.mean(kaggle))
    tally.check("Kaggle's score (IoU > τ)", "all", ours.kaggle_score(some_ious), theirs, TOLERANCE)
    return tally


def main() -> int:
    """Make the pairs, compare, say what agreed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    pairs = [pair(number, rng) for number in range(arguments.pairs)]
    ours = our_matching()
    kinds = [kind for kind, _, _ in pairs]
    nuclei = [
        sum(np.count_nonzero(np.unique(labels)) for labels in column) for column in list(zip(*pairs, strict=True))[1:]
    ]
    print(f"StarDist {version('stardist')}, NumPy {np.__version__}, SciPy {version('scipy')}, seed {arguments.seed}")
    print(f"{len(pairs)} pairs: " + ", ".join(f"{kinds.count(k.__name__)} {k.__name__}" for k in KINDS))
    print(f"{nuclei[0]:,} true nuclei, {nuclei[1]:,} found")
    for threshold in (0.1, *ours.THRESHOLDS):
        total = sum((ours.match(ours.iou_matrix(t, f), threshold) for _, t, f in pairs), ours.Matches(0, 0, 0))
        print(f"  at {threshold:.2f}: tp {total.true_positive}, fp {total.false_positive}, fn {total.false_negative}")
    tally = compare(pairs, ours)
    for what, count in tally.compared.items():
        differing = sum(difference.startswith(f"{what}, ") for difference in tally.differences)
        print(f"{what}: {count - differing} of {count} agree")
    print("\n".join(tally.differences[:20]) or "Everything agrees.")
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
