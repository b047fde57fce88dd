"""Scores of how exposed each private record is, from the data and the trained generator alone.

They need no shadow models, and are compared with what the shadows find (`audit.bakeoff`). Private:
each is about single records.
"""

import jax
import jax.numpy as jnp

from curvpub import bilevel, geometry, joint, obfuscate
from curvpub.blocks import map_blocks
from curvpub.publishers.curvature import CurvaturePublisher, Prepared
from curvpub.types import Array

_BLOCK = 256
_NEIGHBOURS = 20  # records whose labels are looked at


def generator_scores(
    publisher: CurvaturePublisher, state: bilevel.BilevelState, prepared: Prepared
) -> dict[str, Array]:
    """Scores from the trained generator, each `[n]`, higher = more exposed.

    They stand beside `PublishInfo.exposure`, the curvature at scale seen from the record. They
    exist for the records that the generator was trained on: of any other record they would tell how
    well it generalises, which is another thing.

    Args:
      publisher: its problem has the ridge.
      state: trained state.
      prepared: the records that it was trained on.

    Returns:
      `pointwise_curvature`, length of the mean curvature vector at the code, and
      `reconstruction_error`, `|f(z) - r|`, in ambient units.
    """
    problem = publisher.problem
    gen, fun = problem.generator, problem.generator.decoder_fn(state.generator)

    def of_record(args: tuple[Array, Array]) -> tuple[Array, Array]:
        x, probs = args
        code = gen.encode(state.generator, x, probs)[0]
        bent = geometry.mean_curvature_vector(fun, code, ridge=problem.lower.ridge)
        record = joint.joint_point(gen.space, x, probs)
        return obfuscate.safe_norm(bent), obfuscate.safe_norm(fun(code) - record)

    bent, missed = map_blocks(of_record, (prepared.x, prepared.probs), block_size=_BLOCK)
    return {"pointwise_curvature": bent, "reconstruction_error": missed}


def neighbour_scores(publisher: CurvaturePublisher, prepared: Prepared) -> dict[str, Array]:
    """Scores from the other records alone, each `[n]`, higher = more exposed.

    Returns:
      `nearest_record`, distance to the nearest other record in the joint space; and
      `label_disagreement`, share of the 20 records with the nearest features that have another
      label.

    Raises:
      ValueError: there is only one record.
    """
    count, space = prepared.x.shape[0], publisher.problem.generator.space
    if count < 2:
        raise ValueError(f"{count} records: none has a neighbour")
    points = jax.vmap(lambda x, p: joint.joint_point(space, x, p))(prepared.x, prepared.probs)
    nearest = geometry.nearest_neighbours(points, num_neighbours=1)[:, 0]
    around = geometry.nearest_neighbours(prepared.x, num_neighbours=min(_NEIGHBOURS, count - 1))
    label = jnp.argmax(prepared.probs, axis=1)
    other = (label[around] != label[:, None]).astype(prepared.x.dtype)
    return {
        "nearest_record": jax.vmap(obfuscate.safe_norm)(points - points[nearest]),
        "label_disagreement": jnp.mean(other, axis=1),
    }
