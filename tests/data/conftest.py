"""Tiny data sets of every kind, written as a user (or TFDS) would write them."""

import io
import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def write_npz(tmp_path):
    """Writes arrays and returns the path; keyword `None` leaves one out."""

    def write(**arrays):
        path = tmp_path / "set.npz"
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        return str(path)

    return write


@pytest.fixture
def png():
    """Levels `[H, W, C]` as the bytes of a PNG file."""

    def encode(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return encode


def _feature(value):
    from tensorflow_datasets.proto import tf_feature_pb2 as pb

    if isinstance(value, bytes):
        return pb.Feature(bytes_list=pb.BytesList(value=[value]))
    return pb.Feature(int64_list=pb.Int64List(value=np.atleast_1d(value).tolist()))


def _features_json(features):
    core = "tensorflow_datasets.core.features."
    made = {}
    for name, (kind, about) in features.items():
        if kind == "image":
            shape = {"dimensions": [str(d) for d in about]}
            made[name] = {"image": {"dtype": "uint8", "shape": shape}}
            made[name]["pythonClassName"] = core + "image_feature.Image"
        elif kind == "tensor":
            shape = {"dimensions": [str(about)]}
            made[name] = {"tensor": {"dtype": "int32", "encoding": "bytes", "shape": shape}}
            made[name]["pythonClassName"] = core + "tensor_feature.Tensor"
        elif kind == "label":
            made[name] = {"classLabel": {"numClasses": str(len(about))}}
            made[name]["pythonClassName"] = core + "class_label_feature.ClassLabel"
        else:
            raise AssertionError(kind)
    name = core + "features_dict.FeaturesDict"
    return {"featuresDict": {"features": made}, "pythonClassName": name}


@pytest.fixture
def write_tfds(tmp_path):
    """Writes a prepared TFDS set (array_record) without TensorFlow; returns the data folder."""
    array_record = pytest.importorskip("array_record.python.array_record_module")
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    def write(name, features, splits, *, file_format="array_record", columns=None, shard=None):
        folder = tmp_path / "tfds" / name / "1.0.0"
        folder.mkdir(parents=True)
        infos = []
        for split, records in splits.items():
            path = folder / f"{name}-{split}.{file_format}-00000-of-00001"
            writer = array_record.ArrayRecordWriter(str(path), "group_size:1")
            for record in records:
                feature = {k: _feature(v) for k, v in record.items()}
                message = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=feature))
                writer.write(message.SerializeToString())
            writer.close()
            infos.append(
                {
                    "name": split,
                    "numBytes": "1000",
                    "shardLengths": [str(shard or len(records))],
                    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                }
            )
        info = {"fileFormat": file_format, "name": name, "version": "1.0.0", "splits": infos}
        info["moduleName"] = "__main__"
        (folder / "dataset_info.json").write_text(json.dumps(info))
        (folder / "features.json").write_text(json.dumps(_features_json(features)))
        for key, (kind, about) in features.items():
            if kind == "label":
                (folder / f"{key}.labels.txt").write_text("\n".join(about) + "\n")
        if columns is not None:
            (folder / "columns.json").write_text(json.dumps(columns))
        return str(tmp_path / "tfds")

    return write
