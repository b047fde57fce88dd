"""Metadata of a release as Croissant, the vocabulary by which data sets are found and loaded.

Source: "Croissant Format Specification", version 1.0 (mlcommons.org/croissant/1.0), whose context
and names these are.
"""

import urllib.parse
from collections.abc import Mapping
from typing import Any

from curvpub.release import parquet, wording

_RECORDS = "records"  # the file's identifier, and that of the records in it
_CLASSES = "classes"
_PAPER = (
    "@article{curvature2025, title={Privacy-Utility Trade-off in Data Publication: A Bilevel "
    "Optimization Framework with Curvature-Guided Perturbation}, journal={arXiv:2509.02048}, "
    "year={2025}}"
)
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty",
    "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField",
    "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
} | {term: f"cr:{term}" for term in _TERMS}


def make_croissant(
    metadata: Mapping[str, Any], *, path: str, size: int, digest: str
) -> dict[str, Any]:
    """The JSON-LD document of a release.

    Args:
      metadata: content of `release.json`; has a `license` where whoever publishes has chosen one.
      path: of the Parquet file, relative to the document.
      size: of the file, in bytes.
      digest: SHA-256 of the file.
    """
    file = {
        "@type": "cr:FileObject",
        "@id": _RECORDS,
        "name": _RECORDS,
        "contentUrl": path,
        "contentSize": f"{size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }
    chosen = {"license": metadata["license"]} if "license" in metadata else {}
    return chosen | {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": metadata["name"],
        "description": description(metadata),
        "datePublished": metadata["created"],
        "citeAs": _PAPER,
        "keywords": ["synthetic data", "privacy", "membership inference"],
        "distribution": [file],
        "recordSet": [_classes(metadata["schema"]), _records(metadata["schema"])],
    }


def description(metadata: Mapping[str, Any]) -> str:
    """What a release is, its guarantee, and whether it was audited, in three sentences.

    Args:
      metadata: content of `release.json`.
    """
    audited = "" if metadata["audited"] else " It has not been audited yet: do not share it."
    return (
        "A protected version of a private data set, made with curvpub: "
        f"{metadata['sizes']['released']} published records and their labels. "
        f"{wording.guarantee(metadata.get('guarantee'))[0]}{audited}"
    )


def _classes(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The label's classes and their numbers, as records of their own."""
    index, name = f"{_CLASSES}/index", f"{_CLASSES}/name"
    return {
        "@type": "cr:RecordSet",
        "@id": _CLASSES,
        "name": _CLASSES,
        "dataType": "sc:Enumeration",
        "key": {"@id": index},
        "field": [
            {"@type": "cr:Field", "@id": index, "name": "index", "dataType": "sc:Integer"},
            {"@type": "cr:Field", "@id": name, "name": "name", "dataType": "sc:Text"},
        ],
        "data": [{index: i, name: text} for i, text in enumerate(schema["classes"])],
    }


def _records(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema["kind"] == "image":
        fields = [_field(parquet.IMAGE, "sc:ImageObject", "The picture, as PNG.")]
        fields[0]["source"]["transform"] = {"jsonPath": "bytes"}
    else:
        fields = [_field(c["name"], _type(c), _about(c)) for c in schema["columns"]]
    label = _field(schema["label"], "sc:Integer", "The most probable class.")
    label["references"] = {"field": {"@id": f"{_CLASSES}/index"}}
    shares = _field(parquet.PROBABILITIES, "sc:Float", "Published probability of every class.")
    shares["repeated"] = True
    return {
        "@type": "cr:RecordSet",
        "@id": "default",
        "name": "default",
        "field": [*fields, label, shares],
    }


def _field(name: str, kind: str, about: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"default/{urllib.parse.quote(name)}",  # identifiers must not have blanks
        "name": name,
        "description": about,
        "dataType": kind,
        "source": {"fileObject": {"@id": _RECORDS}, "extract": {"column": name}},
    }


def _type(column: Mapping[str, Any]) -> str:
    if column["categories"]:
        return "sc:Text"
    return "sc:Integer" if column["integer"] else "sc:Float"


def _about(column: Mapping[str, Any]) -> str:
    if column["categories"]:
        return f"One of {len(column['categories'])} categories."
    return "A whole number." if column["integer"] else "A number."
