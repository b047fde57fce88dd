"""Settings: defaults, types, ranges, and the sentence that each bad value gets."""

import dataclasses
import math
import pathlib
import re
import subprocess
import sys

import ml_collections
import pytest
from absl import flags as absl_flags
from ml_collections import config_flags

from curvpub.config import STAGES, Config, config_dict, from_config_dict, validate


def changed(name: str, value) -> Config:
    """The defaults with one field, `section.field` or `field`, replaced past every type check."""
    section, _, field = name.rpartition(".")
    if not section:
        return dataclasses.replace(Config(), **{field: value})
    part = dataclasses.replace(getattr(Config(), section), **{field: value})
    return dataclasses.replace(Config(), **{section: part})


def test_defaults_are_valid_and_survive_the_round_trip():
    validate(Config())
    assert from_config_dict(config_dict()) == Config()


def test_config_is_hashable():
    assert hash(from_config_dict(config_dict())) == hash(Config())


BAD = {
    ("seed", -1): "seed=-1 must lie in [0, 2147483647]",
    ("secret", -2): "secret=-2 must lie in [-1, 4611686018427387903]",
    ("devices", -1): "devices=-1 must be at least 0 and finite",
    ("stages", ()): "stages=() must be some of train, publish, audit, report",
    ("stages", ("train", "ship")): "stages=('train', 'ship') must be some of train",
    ("data.source", "ftp"): "data.source='ftp' must be one of digits, tfds, npz, images, csv",
    ("data.duplicates", "keep"): "data.duplicates='keep' must be one of error, drop",
    ("data.test_fraction", 0.0): "data.test_fraction=0.0 must lie in [0.01, 0.9]",
    ("data.pool_size", -5): "data.pool_size=-5 must be at least 0 and finite",
    ("model.kind", "vit"): "model.kind='vit' must be one of mlp, conv",
    ("model.latent_dim", 0): "model.latent_dim=0 must be positive and finite",
    ("model.hidden", ()): "model.hidden=() must be one or more positive widths",
    ("model.hidden", (32, 0)): "model.hidden=(32, 0) must be one or more positive widths",
    ("model.disc_hidden", ()): "model.disc_hidden=() must be one or more positive widths",
    ("model.x_sigma", math.nan): "model.x_sigma=nan must be positive and finite",
    ("model.label_scale", math.inf): "model.label_scale=inf must be positive and finite",
    ("model.kl_weight", math.inf): "model.kl_weight=inf must be at least 0 and finite",
    ("lower.num_probes", 3): "lower.num_probes=3 must be even and at least 2",
    ("lower.num_probes", 0): "lower.num_probes=0 must be even and at least 2",
    ("lower.scale", -1.0): "lower.scale=-1.0 must be positive and finite",
    ("lower.step_size", -0.1): "lower.step_size=-0.1 must be at least 0 and finite",
    ("lower.temperature", math.inf): "lower.temperature=inf must be at least 0 and finite",
    ("lower.proximity", math.nan): "lower.proximity=nan must be at least 0 and finite",
    ("lower.proximity", 20.0): "lower.step_size=0.15 times lower.proximity=20.0 is 3 and must be",
    ("lower.proximity", math.inf): "lower.proximity=inf must be at least 0 and finite",
    ("lower.proximity_exposed", 11.0): "lower.proximity_exposed=11.0 must lie in [0, 10.0]",
    ("lower.batch_fraction", 1.5): "lower.batch_fraction=1.5 must lie in [0, 1]",
    ("lower.strength", 1.5): "lower.strength=1.5 must lie in [0, 1]",
    ("lower.left_out", 0.6): "lower.left_out=0.6 must lie in [0, 0.5]",
    ("lower.left_out_from", -0.1): "lower.left_out_from=-0.1 must lie in [0, 1]",
    ("lower.steps", 0): "lower.steps=0 must be positive and finite",
    ("model.prior", "flow"): "model.prior='flow' must be one of gaussian, brownian",
    ("model.brownian_steps", 0): "model.brownian_steps=0 must be positive and finite",
    ("model.brownian_warmup", 1.0): "model.brownian_warmup=1.0 must lie in [0, 0.9]",
    ("model.brownian_anchor", -1.0): "model.brownian_anchor=-1.0 must be at least 0 and finite",
    ("model.precision_centres", 0): "model.precision_centres=0 must be positive and finite",
    ("train.hypergradient", "exact"): "train.hypergradient='exact' must be one of first_order",
    ("train.hypergradient_terms", 0): "train.hypergradient_terms=0 must be positive and finite",
    ("train.adversarial_loss", "w"): "train.adversarial_loss='w' must be one of nonsaturating",
    ("train.diversity_weight", -1.0): "train.diversity_weight=-1.0 must be at least 0 and finite",
    ("lower.ridge", 0.0): "lower.ridge=0.0 must be positive and finite",
    ("train.steps", 0): "train.steps=0 must be positive and finite",
    ("train.learning_rate", 0.0): "train.learning_rate=0.0 must be positive and finite",
    ("train.r1_weight", -1.0): "train.r1_weight=-1.0 must be at least 0 and finite",
    ("publish.mode", "swap"): "publish.mode='swap' must be one of resampled, aligned",
    ("publish.copies", 0.0): "publish.copies=0.0 must be positive and finite",
    ("publish.selection", "H"): "publish.selection='H' must be one of scale, pointwise",
    ("publish.oversample", 0): "publish.oversample=0 must be positive and finite",
    ("publish.rho", 1.1): "publish.rho=1.1 must lie in [0, 1]",
    ("publish.rho_exposed", 0.6): "publish.rho_exposed=0.6 must lie in [0, 0.5]",
    ("publish.curvature_probes", 5): "publish.curvature_probes=5 must be even and at least 2",
    ("audit.shadows", 6): "audit.shadows=6 must be at least 8 and finite",
    ("audit.shadows", 9): "audit.shadows=9 must be even and at least 2: it comes in pairs",
    ("audit.flow_steps", -1): "audit.flow_steps=-1 must be at least 0 and finite",
    ("audit.adaptive_steps", -1): "audit.adaptive_steps=-1 must be at least 0 and finite",
    ("audit.fpr", 0.0): "audit.fpr=0.0 must lie in [1e-06, 0.5]",
    ("audit.confidence", 1.0): "audit.confidence=1.0 must lie in [0.5, 0.9999]",
    ("audit.attackers", ("long", "big")): "audit.attackers=('long', 'big') must be some of long, l",
    ("audit.attackers", ("mlp", "mlp")): "audit.attackers=('mlp', 'mlp') must be some of long, lin",
    ("audit.hidden", (0,)): "audit.hidden=(0,) must be one or more positive widths",
    ("audit.adaptive_hidden", (8, 0)): "audit.adaptive_hidden=(8, 0) must be one or more positive",
}


@pytest.mark.parametrize(
    ("setting", "message"), BAD.items(), ids=lambda v: f"{v[0]}={v[1]}" if len(v) == 2 else ""
)
def test_bad_value_is_named(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        validate(changed(*setting))


def test_leaving_out_needs_draws_and_no_lower_level():
    message = re.escape("lower.left_out=0.1 must be 0 where publish.mode='aligned'")
    with pytest.raises(ValueError, match=message):
        from_config_dict(config_dict(lower={"left_out": 0.1}, publish={"mode": "aligned"}))
    # All records are measured by themselves when it is decided.
    from_config_dict(config_dict(lower={"left_out": 0.1, "batch_fraction": 0.0}))


def numeric_settings() -> list[str]:
    names = []
    for field in dataclasses.fields(Config):
        value = getattr(Config(), field.name)
        if dataclasses.is_dataclass(value):
            inner = dataclasses.fields(value)
            names += [f"{field.name}.{f.name}" for f in inner if _is_float(value, f.name)]
    return names


def _is_float(section, name: str) -> bool:
    return isinstance(getattr(section, name), float)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", numeric_settings())
def test_no_fraction_may_be_infinite_or_undefined(name, value):
    """Whichever float is added later, someone has to say what it may be."""
    with pytest.raises(ValueError, match=re.escape(f"{name}={value!r}")):
        validate(changed(name, value))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": True}, "config.seed=True must be of type int"),
        ({"train": {"steps": "many"}}, "config.train.steps='many' must be of type int"),
        ({"train": {"steps": 1.5}}, "config.train.steps=1.5 must be of type int"),
        ({"lower": {"scale": True}}, "config.lower.scale=True must be of type float"),
        ({"model": {"hidden": (32.5,)}}, "config.model.hidden=32.5 must be of type int"),
        ({"model": {"hidden": None}}, "config.model.hidden=None must be of type int"),
        ({"stages": None}, "config.stages=None must be of type str"),
        ({"name": 3}, "config.name=3 must be of type str"),
        ({"nope": 1}, "config.nope is not a setting; known: ['audit', 'data'"),
        ({"lower": {"probes": 1}}, "config.lower.probes is not a setting; known: ['batch_"),
    ],
)
def test_wrong_type_or_name_is_told(values, message):
    settings = dataclasses.asdict(Config())
    for name, value in values.items():
        if isinstance(value, dict):
            settings[name].update(value)
        else:
            settings[name] = value
    settings = ml_collections.ConfigDict(settings)  # made elsewhere, without our types
    with pytest.raises(ValueError, match=re.escape(message)):
        from_config_dict(settings)


def test_experiment_files_cannot_misspell_a_setting():
    with pytest.raises(KeyError, match="lr"):
        config_dict(train={"lr": 1.0})
    with pytest.raises(KeyError, match="nope"):
        config_dict(nope=1)


def test_whole_numbers_become_fractions_where_one_is_meant():
    config = from_config_dict(config_dict(lower={"proximity": 3}, publish={"copies": 1}))
    assert isinstance(config.lower.proximity, float)
    assert isinstance(config.publish.copies, float)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ([32, 16], (32, 16)),
        ((8,), (8,)),
    ],
)
def test_tuples_of_widths(given, made):
    assert from_config_dict(config_dict(model={"hidden": given})).model.hidden == made


@pytest.mark.parametrize(
    ("flags", "field", "expected"),
    [
        (["--config.stages=train"], "stages", ("train",)),
        (["--config.stages=audit,report"], "stages", ("audit", "report")),
        (["--config.stages='train','publish'"], "stages", ("train", "publish")),
        (["--config.model.hidden=32,16"], "model.hidden", (32, 16)),
        (["--config.audit.attackers=linear,conv"], "audit.attackers", ("linear", "conv")),
        (["--config.audit.attackers=()"], "audit.attackers", ()),
        (["--config.model.hidden=32"], "model.hidden", (32,)),
        (["--config.lower.proximity=3"], "lower.proximity", 3.0),
        (["--config.train.learning_rate=1e-3"], "train.learning_rate", 1e-3),
        (["--config.data.test_is_public=true"], "data.test_is_public", True),
    ],
    ids=lambda v: v[0].removeprefix("--config.") if isinstance(v, list) else "",
)
def test_command_line_overrides(tmp_path, monkeypatch, flags, field, expected):
    """Through the flags of ml_collections, as `main.py` reads them."""
    path = tmp_path / "experiment.py"
    path.write_text(
        "from curvpub.config import config_dict\ndef get_config():\n    return config_dict()\n"
    )
    argv = ["test", f"--config={path}", *flags]
    monkeypatch.setattr(sys, "argv", argv)  # where ml_collections looks for overrides
    values = absl_flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    values(argv)
    config = from_config_dict(holder.value)
    for part in field.split("."):
        config = getattr(config, part)
    assert config == expected
    assert type(config) is type(expected)


def test_stages_are_the_ones_that_run_in_this_order():
    assert STAGES == ("train", "publish", "audit", "report")


def test_settings_need_no_accelerator_library():
    """Reading a configuration must not start JAX: `--help` and bad values are answered at once."""
    root = pathlib.Path(__file__).parent.parent
    code = "import sys, curvpub.config; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
