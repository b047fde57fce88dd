"""Placement over one or several devices."""

from typing import Any, TypeVar

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")
AXIS = "data"


def data_mesh(num_devices: int = 0) -> Mesh:
    """A one-dimensional mesh over the first devices of this process's back end.

    Args:
      num_devices: devices to use; 0 = all.

    Raises:
      ValueError: more devices are asked for than there are.
    """
    devices = jax.devices()
    if num_devices > len(devices):
        raise ValueError(f"devices={num_devices!r} is more than the {len(devices)} there are")
    devices = devices[: num_devices or len(devices)]
    # Auto axes: the compiler propagates shardings, so the same code runs on any number.
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh, num_rows: int) -> NamedSharding:
    """The first axis is split over the devices, or replicated where they do not divide it."""
    if num_rows % mesh.size:
        return replicated(mesh)
    return NamedSharding(mesh, PartitionSpec(AXIS))


def replicate(mesh: Mesh, tree: T) -> T:
    """Copies a tree to every device of the mesh."""
    return jax.device_put(tree, replicated(mesh))


def describe(mesh: Mesh) -> str:
    """The devices in words, for reports: `2 x cpu`."""
    kind = mesh.devices.flat[0].device_kind
    return f"{mesh.size} x {kind}"


def memory_report(compiled: Any) -> str:
    """Temporary memory of a compiled function in words, where the back end tells."""
    analysis = compiled.memory_analysis()
    size = getattr(analysis, "temp_size_in_bytes", None)
    return "" if size is None else f"{size / 2**20:.0f} MiB of temporaries"
