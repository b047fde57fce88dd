"""Feature spaces of networks that the user has in a file, such as Inception for the FID.

The file holds a network, not weights alone: ONNX (`.onnx`, by the extra `onnx`) or TorchScript (any
other name, by an installed `torch`). It takes images `[n, 3, 299, 299]`, float32, in [-1, 1), and
gives features `[n, d]` (or `[n, d, 1, 1]`). Images are made into that as the original FID does
(`as_inception_input`). A network with another input resizes and rescales inside the file.

Which file gives the published FID: that of the network of 2015-12-05 whose 2048 pooled features
Heusel et al. (arXiv 1706.08500) used. It is around as

* `inception-2015-12-05.pt` of StyleGAN2-ADA, TorchScript, whose part `layers` is what is wanted:
  `torch.jit.load("inception-2015-12-05.pt").layers.save("fid.pt")`;
* `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid, weights alone, for its class `InceptionV3`:
  `net = InceptionV3([3], resize_input=False, normalize_input=False).eval()`, and a module that
  returns `net(x)[0]`, traced by `torch.jit.trace` or exported by `torch.onnx.export`.

torchvision's own Inception has other weights and gives other figures. A distance of fewer images
than a paper's (50,000 as a rule) is biased upwards: compare equal numbers only.
"""

import pathlib
from collections.abc import Callable

import numpy as np

from curvpub.evaluate import checks
from curvpub.evaluate.space import FeatureSpace, given_space
from curvpub.types import Records, Schema

_EDGE = 299
_BATCH = 32

Network = Callable[[np.ndarray], np.ndarray]


def external_space(schema: Schema, path: str | pathlib.Path, test: Records) -> FeatureSpace:
    """The space of a network in a file; all test records are its reference.

    Args:
      schema: the public description of a set of images.
      path: ONNX or TorchScript, see the module; it must not have been trained on the pool.
      test: real records outside the pool.

    Raises:
      ValueError: as in `external_network`, or records do not fit the schema.
    """
    return given_space(schema, external_network(schema, path), test)


def external_network(
    schema: Schema, path: str | pathlib.Path, *, name: str = "path"
) -> Callable[[np.ndarray], np.ndarray]:
    """The network as a map from images `[n, H, W, C]` in [0, 1] to features `[n, d]`, float64.

    It is asked about two made-up images first, so that a wrong file fails here.

    Args:
      schema: the public description of a set of images.
      path: ONNX or TorchScript, see the module.
      name: of the setting that the path is, for messages.

    Raises:
      ValueError: no images, no such file, no network in it, its library is not installed, or what
        it gives are no features.
    """
    path = pathlib.Path(path)
    said = f"{name}={str(path)!r}"
    if schema.kind != "image" or schema.shape[-1] not in (1, 3):
        raise ValueError(
            f"{said} needs images of 1 or 3 channels, not {schema.kind} {schema.shape}"
        )
    if not path.is_file():
        raise ValueError(f"{said} is no file")
    network = (_load_onnx if path.suffix == ".onnx" else _load_torchscript)(path, said)
    embed = lambda x: _in_batches(network, np.asarray(x), said)
    probe = np.linspace(0.0, 1.0, 2 * int(np.prod(schema.shape))).reshape(2, *schema.shape)
    found = embed(probe)
    if found.shape[1] > 1 and np.allclose(found.sum(axis=1), 1.0) and found.min() >= 0.0:
        raise ValueError(f"{said} gives {found.shape[1]} class probabilities, not features")
    return embed


def as_inception_input(x: np.ndarray) -> np.ndarray:
    """Images `[n, H, W, C]` in [0, 1] as `[n, 3, 299, 299]`, float32.

    Pixels are rounded to 8 bits, as in a file; a single channel is repeated; edges are resized
    bilinearly without half-pixel centres and without antialiasing, pixel i of 299 looking at
    `i H / 299`, as the original FID's TensorFlow 1 graph does; then (v - 128) / 128 of
    v = 0, ..., 255.
    """
    pixels = np.round(np.clip(np.asarray(x, np.float64), 0.0, 1.0) * 255.0)
    rows, columns = _resizing(x.shape[1]), _resizing(x.shape[2])
    resized = np.einsum("ah,nhwc,bw->ncab", rows, pixels, columns, optimize=True)
    scaled = ((resized - 128.0) / 128.0).astype(np.float32)
    return np.repeat(scaled, 3, axis=1) if x.shape[3] == 1 else scaled


def _resizing(edge: int) -> np.ndarray:
    """Weights `[299, edge]` of a bilinear resize along one edge."""
    place = np.arange(_EDGE) * (edge / _EDGE)
    low = np.floor(place).astype(int)
    share = place - low
    weights = np.zeros((_EDGE, edge))
    np.add.at(weights, (np.arange(_EDGE), low), 1.0 - share)
    np.add.at(weights, (np.arange(_EDGE), np.minimum(low + 1, edge - 1)), share)
    return weights


def _in_batches(network: Network, x: np.ndarray, said: str) -> np.ndarray:
    found = []
    for start in range(0, len(x), _BATCH):
        batch = as_inception_input(x[start : start + _BATCH])
        try:
            part = np.asarray(network(batch), np.float64)
        except Exception as error:  # the runtimes have types of their own
            raise ValueError(
                f"{said}: the network does not take {batch.shape} float32 ({type(error).__name__})"
            ) from None
        if part.ndim < 2 or len(part) != len(batch) or part[0].size != part.shape[1]:
            raise ValueError(f"{said} gives {part.shape} for {len(batch)} images, not [n, d]")
        found.append(part.reshape(len(part), -1))
    return checks.as_points(f"features by {said}", np.concatenate(found))


def _load_onnx(path: pathlib.Path, said: str) -> Network:
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"{said} needs onnxruntime: pip install 'curvpub[onnx]'") from error
    try:
        session = onnxruntime.InferenceSession(
            str(path), providers=onnxruntime.get_available_providers()
        )
    except Exception as error:  # the runtime's exceptions share no type
        raise ValueError(f"{said} is no ONNX network ({type(error).__name__})") from error
    given = session.get_inputs()
    if len(given) != 1:
        raise ValueError(f"{said} takes {len(given)} inputs, not one")
    return lambda batch: session.run(None, {given[0].name: batch})[0]


def _load_torchscript(path: pathlib.Path, said: str) -> Network:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(f"{said} needs torch, unless it is a file *.onnx") from error
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise ValueError(
            f"{said} is no TorchScript; weights alone (a state dict) are no network: see "
            "curvpub.evaluate.external for how to make one"
        ) from error

    def ask(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            answer = module(torch.from_numpy(batch))
        if isinstance(answer, list | tuple):
            answer = answer[0]
        return answer.float().numpy()

    return ask
