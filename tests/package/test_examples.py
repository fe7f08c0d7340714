"""The example of cats and dogs: what it says without its images, and that it runs on some."""

from __future__ import annotations

import gzip
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.conftest import ROOT

pytest.importorskip("matplotlib")
pytest.importorskip("typer")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import matplotlib as mpl

    mpl.use("agg")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import cats_and_dogs

    return cats_and_dogs


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as animal-mnist is laid out, which cannot be imported, with drawn boxes in it."""
    folder = tmp_path / "animal_mnist" / "data" / "Animal_MNIST"
    folder.mkdir(parents=True)
    (tmp_path / "animal_mnist" / "__init__.py").write_text("raise ImportError('not needed')")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 40)
    images = np.zeros((400, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left, height = rng.integers(1, 8, 3)
        width = 3 * height if label == 2 else height // 2 + 1  # cats lie, dogs stand
        image[top : top + 2 * height, left : left + width] = 255
    for name, array in (("data", images), ("label", labels)):
        with gzip.open(folder / f"animal_{name}_version_3.gz", "wb") as file:
            pickle.dump(array, file)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_says_what_to_install(example: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(example, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps animal-mnist"):
        example.silhouettes(("cat", "dog"))


def test_learns_and_draws(example: ModuleType, package: Path, tmp_path: Path):
    example.main(epochs=2, seed=0, all_animals=False, output=tmp_path)
    assert "animal_mnist" not in sys.modules
    names = {path.stem for path in tmp_path.glob("*.png")}
    assert names == {f"cats_and_dogs_{n}" for n in ("detectors", "patches", "maps", "mistakes")}


def test_reads_arrays_and_nothing_else(example: ModuleType, package: Path):
    with gzip.open(package / "animal_label_version_3.gz", "wb") as file:
        pickle.dump(np.load, file)
    with pytest.raises(pickle.UnpicklingError, match="no need of"):
        example.silhouettes(("cat", "dog"))


def test_finds_near_duplicates(example: ModuleType):
    rng = np.random.default_rng(0)
    a, b, c = (rng.random((3, 1, 28, 28)) < 0.3).astype(np.float32)
    shifted = np.roll(a, 1, 2)
    shifted[:, 0] = 0
    x = np.stack([a, b, a[..., ::-1], c, shifted[..., ::-1]])
    near = example.near_duplicates(x, 0.15)
    expected = np.eye(5, dtype=bool)
    for i in (0, 2, 4):
        expected[i, [0, 2, 4]] = True
    np.testing.assert_array_equal(near, expected)


def test_a_chain_is_one_family(example: ModuleType):
    near = np.eye(6, dtype=bool)
    for i, j in ((5, 3), (3, 1), (2, 4)):
        near[i, j] = near[j, i] = True
    assert example.families(near).tolist() == [0, 1, 2, 1, 2, 1]


def test_no_family_is_on_both_sides(example: ModuleType):
    rng = np.random.default_rng(0)
    x = (rng.random((40, 1, 28, 28)) < 0.3).astype(np.float32)
    x = np.concatenate([x, x[..., ::-1]])
    names = np.tile(np.arange(40), 2)
    images, labels, held, held_labels = example.learnt_and_held_out(x, names % 2, rng)
    assert len(held) == 16
    assert len(images) == 64
    assert len(labels) == 64
    assert len(held_labels) == 16
    mirrored = {image[..., ::-1].tobytes() for image in held}
    assert mirrored == {image.tobytes() for image in held}


def test_views_are_what_a_position_sees(example: ModuleType):
    """A pixel inside the view of a position changes it, and one beside the view does not."""
    network = example.five_layers(2, np.random.default_rng(0))
    for layer in network.layers:
        if isinstance(layer, example.Convolution):
            layer.weight[:] = np.abs(layer.weight)  # so that nothing is cut off or cancels
    x = np.random.default_rng(1).random((1, 1, 28, 28), np.float32) + 1
    for index, view in example.views(network).items():
        row = column = 3
        before = example.maps_of(network, x, index)[0, :, row, column].copy()
        top = view.first + view.step * row
        for distance, sees in ((-1, False), (0, True), (view.size - 1, True), (view.size, False)):
            pixel = top + distance
            if not 0 <= pixel < 28:
                continue
            changed = x.copy()
            changed[0, 0, pixel, max(0, top) : top + view.size] += 100
            after = example.maps_of(network, changed, index)[0, :, row, column]
            assert (not np.array_equal(after, before)) == sees
