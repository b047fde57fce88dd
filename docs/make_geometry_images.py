"""Draws the pictures of docs/geometry.md: `python docs/make_geometry_images.py`."""

import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from curvpub import geometry

matplotlib.use("Agg")
from matplotlib import pyplot as plt

jax.config.update("jax_enable_x64", True)


def torus(z):
    """Radii 2 and 0.8; `z` is the angle of the tube and the angle around the axis."""
    ring = 2.0 + 0.8 * jnp.cos(z[0])
    return jnp.stack([ring * jnp.cos(z[1]), ring * jnp.sin(z[1]), 0.8 * jnp.sin(z[0])])


def catenoid(z):
    """Neck of radius 1; `z` is the height and the angle."""
    ring = jnp.cosh(z[0])
    return jnp.stack([ring * jnp.cos(z[1]), ring * jnp.sin(z[1]), z[0]])


SURFACES = {
    # decoder, range of the two latents, start and two velocities of geodesics, end of a third
    "torus": (
        torus,
        (0.0, 2 * np.pi),
        [(0.0, 0.3), (2.5, 1.3), (0.0, 2.2)],
        [(-2.6, 1.2), (2.0, -1.0)],
    ),
    "catenoid": (
        catenoid,
        (-1.4, 1.4),
        [(-1.2, 0.0), (1.6, 0.9), (2.2, 1.6)],
        [(-1.2, 4.0), (1.2, 5.5)],
    ),
}


def on_grid(fun, bounds, count=60):
    """Points, |H| and |II| on a grid of latents."""
    first = np.linspace(*bounds, count)
    second = np.linspace(0.0, 2 * np.pi, 2 * count)
    z = jnp.asarray(np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2))
    mean = jax.jit(jax.vmap(lambda p: geometry.mean_curvature_vector(fun, p)))(z)
    norm = jax.jit(jax.vmap(lambda p: geometry.curvature_norm_squared(fun, p)))(z)
    shape = (count, 2 * count)
    points = np.asarray(jax.vmap(fun)(z)).reshape(*shape, 3)
    lengths = np.linalg.norm(mean, axis=1)
    return points, {
        "|H|": lengths.reshape(shape),
        "|II|": np.sqrt(np.asarray(norm)).reshape(shape),
    }


def curves(fun, start_and_velocities, ends):
    """Two geodesics by the exponential map and one between two points."""
    start = jnp.asarray(start_and_velocities[0])
    shots = [
        geometry.geodesic_path(fun, start, jnp.asarray(v), num_steps=128).points
        for v in start_and_velocities[1:]
    ]
    between = geometry.geodesic(fun, *map(jnp.asarray, ends), num_points=65)
    return [np.asarray(jax.vmap(fun)(c)) for c in (*shots, between)]


def draw(axis, points, values, paths, title):
    """One surface, coloured, with geodesics on top."""
    low, high = min(0.0, float(values.min())), max(float(values.max()), 1e-6)
    # A minimal surface has |H| = 0 up to rounding: show it as the zero it is.
    high = high if high > 1e-6 else 1.0
    norm = plt.Normalize(low, high)
    axis.plot_surface(
        *np.moveaxis(points, -1, 0),
        facecolors=plt.cm.viridis(norm(values)),
        rstride=1,
        cstride=1,
        linewidth=0,
        antialiased=False,
        shade=False,
    )
    for path, colour in zip(paths, ("crimson", "darkorange", "black"), strict=True):
        axis.plot(*path.T, color=colour, linewidth=2.2, zorder=10)
    axis.set_box_aspect(np.ptp(points.reshape(-1, 3), axis=0), zoom=1.4)
    axis.set_title(title)
    axis.set_axis_off()
    axis.figure.colorbar(plt.cm.ScalarMappable(norm, "viridis"), ax=axis, shrink=0.6, pad=0.02)


def main(folder: pathlib.Path) -> None:
    """Writes one picture for each surface."""
    for name, (fun, bounds, shots, ends) in SURFACES.items():
        points, fields = on_grid(fun, bounds)
        paths = curves(fun, shots, ends)
        figure, axes = plt.subplots(
            1, 2, figsize=(10, 4.2), subplot_kw={"projection": "3d"}, layout="constrained"
        )
        for axis, (label, values) in zip(axes, fields.items(), strict=True):
            axis.view_init(elev=38, azim=35)
            axis.computed_zorder = False  # curves stay visible
            draw(axis, points, values, paths, f"{name}, {label}")
        figure.savefig(folder / f"geometry-{name}.png", dpi=110)
        plt.close(figure)


if __name__ == "__main__":
    main(pathlib.Path(__file__).parent / "img")
