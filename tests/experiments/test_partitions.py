"""How examples are cut into one part for each worker."""

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments import data

SCHEMES = ["iid", "by-label", "dirichlet:0.1", "dirichlet:0.5", "dirichlet:100"]


def _labels(n: int = 1000, classes: int = 10) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(classes, size=n)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("workers", [1, 3, 10])
def test_partition_is_a_disjoint_cover(scheme: str, workers: int) -> None:
    parts = data.partition(_labels(), workers, scheme, seed=1)
    assert len(parts) == workers
    assert all(len(part) > 0 and part.dtype == np.int64 for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1000))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_partition_depends_on_the_seed_alone(scheme: str) -> None:
    first, again, other = (
        np.concatenate(data.partition(_labels(), 5, scheme, seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (scheme == "by-label")


@pytest.mark.parametrize("scheme", ["iid", "by-label"])
def test_parts_are_nearly_equal(scheme: str) -> None:
    sizes = [len(part) for part in data.partition(_labels(), 7, scheme, seed=0)]
    assert max(sizes) - min(sizes) <= 1


def test_by_label_parts_are_stable_and_hold_few_labels() -> None:
    parts = data.partition(np.array([1, 0, 1, 0, 1, 0]), 3, "by-label", seed=0)
    assert [part.tolist() for part in parts] == [[1, 3], [5, 0], [2, 4]]
    labels = np.repeat(np.arange(10), 100)[::-1]
    for part in data.partition(labels, 10, "by-label", seed=0):
        assert len(np.unique(labels[part])) == 1


def test_by_label_takes_signs() -> None:
    signs = np.array([1, -1, 1, -1], dtype=np.float32)
    parts = data.partition(signs, 2, "by-label", seed=0)
    assert [part.tolist() for part in parts] == [[1, 3], [0, 2]]


def test_smaller_concentration_is_more_skewed() -> None:
    labels = _labels(10_000)

    def skew(scheme: str) -> float:
        parts = data.partition(labels, 5, scheme, seed=3)
        counts = [np.bincount(labels[part], minlength=10) for part in parts]
        return float(np.std(counts))

    assert skew("dirichlet:0.1") > 1.5 * skew("dirichlet:1")
    assert skew("dirichlet:1") > 5 * skew("dirichlet:1000")


def test_dirichlet_gives_up_with_a_remedy() -> None:
    with pytest.raises(ValueError, match="larger A or fewer workers than 50"):
        data.partition(_labels(50, classes=1), 50, "dirichlet:0.01", seed=0)


@pytest.mark.parametrize("workers", [-1, 0, 1001])
def test_bad_worker_count_is_refused(workers: int) -> None:
    with pytest.raises(ValueError, match=f"workers is {workers}: choose 1 to 1000"):
        data.partition(_labels(), workers, "iid", seed=0)


@pytest.mark.parametrize(
    "scheme", ["", "IID", "dirichlet", "dirichlet:", "dirichlet:x", "dirichlet:nan"]
)
def test_unknown_scheme_is_refused(scheme: str) -> None:
    with pytest.raises(ValueError, match=f"scheme is '{scheme}': choose 'iid'"):
        data.partition(_labels(), 4, scheme, seed=0)


@pytest.mark.parametrize("number", ["0", "-1", "inf", "1e7"])
def test_concentration_out_of_range_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=f"'dirichlet:{number}': choose an A with 0 <"):
        data.partition(_labels(), 4, f"dirichlet:{number}", seed=0)


def test_natural_parts_are_the_largest_labels() -> None:
    labels = np.array([3, 1, 1, 2, 2, 2, 0])
    parts = data.partition(labels, 2, "natural", seed=9)
    assert [part.tolist() for part in parts] == [[3, 4, 5], [1, 2]]
    with pytest.raises(ValueError, match="workers is 5, but there are 4 natural"):
        data.partition(labels, 5, "natural", seed=0)
