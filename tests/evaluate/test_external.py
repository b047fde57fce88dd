"""The Frechet distance in the features of a network in a file, against closed forms."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.linalg
from mock_problems import IMAGE, TABLE, make_records

from curvpub import evaluate
from curvpub.evaluate.external import as_inception_input
from curvpub.publishers import RawPublisher
from curvpub.types import Records, Release

COLOUR = dataclasses.replace(IMAGE, shape=(8, 8, 3))


def write_onnx(path, *, flat=True, chances=False):
    """Mean and mean square of each channel, by ONNX operators; or class probabilities."""
    pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra onnx, is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx, which writes the test's network, is not there")
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])
    keep = 0 if flat else 1
    nodes = [
        node("Mul", ["x", "x"], ["square"]),
        node("ReduceMean", ["x", "axes"], ["mean"], keepdims=keep),
        node("ReduceMean", ["square", "axes"], ["power"], keepdims=keep),
        node("Concat", ["mean", "power"], ["joined"], axis=1),
        node("Softmax" if chances else "Identity", ["joined"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes, "tiny", [info("x", onnx.TensorProto.FLOAT, ["n", 3, 299, 299])],
        [info("y", onnx.TensorProto.FLOAT, None)], [axes],
    )  # fmt: skip
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.save(model, str(path))
    return path


def write_torchscript(path, *, flat=True, chances=False):
    """The same by PyTorch."""
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Tiny(torch.nn.Module):
        def forward(self, x):
            y = torch.cat([x.mean((2, 3)), (x * x).mean((2, 3))], 1)
            if chances:
                return torch.softmax(y, 1)
            return y if flat else y[:, :, None, None]

    torch.jit.trace(Tiny(), torch.ones(2, 3, 299, 299)).save(str(path))
    return path


@pytest.fixture(params=["onnx", "torchscript"])
def write(request, tmp_path):
    """Writes a network, and says where."""
    if request.param == "onnx":
        return lambda **kind: write_onnx(tmp_path / "net.onnx", **kind)
    return lambda **kind: write_torchscript(tmp_path / "net.pt", **kind)


def naive_input(x):
    """The original FID's resize, pixel by pixel."""
    count, height, width = x.shape[:3]
    found = np.zeros((count, 3, 299, 299))
    bytes_ = np.rint(255 * x)
    for i in range(299):
        top, below = int(i * height / 299), min(int(i * height / 299) + 1, height - 1)
        down = i * height / 299 - top
        for j in range(299):
            left, right = int(j * width / 299), min(int(j * width / 299) + 1, width - 1)
            across = j * width / 299 - left
            upper = bytes_[:, top, left] * (1 - across) + bytes_[:, top, right] * across
            lower = bytes_[:, below, left] * (1 - across) + bytes_[:, below, right] * across
            found[:, :, i, j] = upper * (1 - down) + lower * down
    return (found - 128) / 128


def naive_features(x):
    given = naive_input(x)
    return np.concatenate([given.mean((2, 3)), (given**2).mean((2, 3))], axis=1)


def scipy_frechet(a, b):
    first, second = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.maximum(scipy.linalg.eigvals(first @ second).real, 0.0)).sum()
    shift = a.mean(axis=0) - b.mean(axis=0)
    return shift @ shift + np.trace(first + second) - 2 * root


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3), (299, 299, 3), (320, 300, 1)])
def test_images_are_resized_and_scaled_as_the_original_does(shape):
    x = np.random.default_rng(0).uniform(size=(2, *shape))
    found = as_inception_input(x)
    assert found.shape == (2, 3, 299, 299)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive_input(x), atol=1e-6)


def test_constant_images_have_features_in_closed_form(write):
    embed = evaluate.external_network(IMAGE, write())
    level = np.arange(256)
    x = np.broadcast_to(level[:, None, None, None] / 255.0, (256, 8, 8, 1))
    v = (level - 128) / 128
    expected = np.stack([v] * 3 + [v**2] * 3, axis=1)
    np.testing.assert_allclose(embed(x), expected, atol=3e-4)  # 89,401 float32, one after another


@pytest.mark.parametrize("schema", [IMAGE, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("flat", [True, False])
def test_the_distance_is_that_of_the_networks_features(write, schema, flat):
    rng = np.random.default_rng(0)
    tint = rng.uniform(0.4, 1.0, (40, 1, 1, schema.shape[2]))  # channels differ
    test = make_records(schema, 40, seed=1)
    test = Records(x=np.asarray(test.x) * tint, y=np.asarray(test.y))
    raw = RawPublisher(schema=schema)(jax.random.key(0), make_records(schema, 40, seed=2))
    release = Release(x=np.asarray(raw.x) ** 1.5 * tint[::-1], y=raw.y)
    space = evaluate.external_space(schema, write(flat=flat), test)
    assert space.reference.shape == (40, 6)
    found = evaluate.frechet_in(space, release)
    expected = scipy_frechet(naive_features(test.x), naive_features(release.x))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    # As many of either: of a longer release so many are drawn.
    twice = Release(x=np.repeat(release.x, 3, axis=0), y=np.repeat(raw.y, 3, axis=0))
    few = evaluate.frechet_in(space, twice, most=10, seed=1)
    real = np.random.default_rng([1, 0]).permutation(40)[:10]
    rows = np.random.default_rng([1, 1]).permutation(120)[:10]
    expected = evaluate.frechet_distance(space.reference[real], space.embed(twice.x[rows]))
    assert few == expected


def test_what_is_no_network_of_features_is_refused(write, tmp_path):
    path = write(chances=True)
    with pytest.raises(ValueError, match=r"feature_weights=.*6 class probabilities"):
        evaluate.external_network(IMAGE, path, name="feature_weights")
    path.write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"path=.* is no (ONNX network|TorchScript)"):
        evaluate.external_network(IMAGE, path)


def test_weights_alone_are_told_from_a_network(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    path = tmp_path / "state.pth"
    torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(ValueError, match="weights alone"):
        evaluate.external_network(IMAGE, path)


def test_a_network_of_another_input_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    path = tmp_path / "small.pt"
    torch.jit.script(net).save(str(path))
    with pytest.raises(ValueError, match=r"does not take \(2, 3, 299, 299\)"):
        evaluate.external_network(IMAGE, path)


def test_no_file_and_no_images_are_refused(tmp_path):
    for schema, path, message in (
        (IMAGE, tmp_path / "absent.onnx", "is no file"),
        (IMAGE, tmp_path, "is no file"),
        (TABLE, tmp_path / "absent.onnx", "needs images"),
        (dataclasses.replace(IMAGE, shape=(8, 8, 2)), tmp_path, "1 or 3 channels"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate.external_network(schema, path)


@pytest.mark.parametrize(("library", "name"), [("onnxruntime", "net.onnx"), ("torch", "net.pt")])
def test_a_missing_library_is_named(tmp_path, monkeypatch, library, name):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(ValueError, match=library):
        evaluate.external_network(IMAGE, tmp_path / name)
