"""How entries of a frontier are built: in parts, so that what can be shared is computed once."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from curvpub.audit.sources import Mixtures
from curvpub.bilevel import Bilevel
from curvpub.config import Config
from curvpub.publishers import LatentPublisher, PriorPublisher, make_publisher
from curvpub.types import Array, Records, Release, Schema


class Asked(NamedTuple):
    """What a builder is told.

    Attributes:
      schema: the data set's public description.
      config: the point's settings.
      trained: those that its generator is trained with: the same, but for the section `publish`,
        which is the base's. Entries that change publication alone share their generators.
      options: of the entry.
      strength: where the kind's strength is not data (`Kind.traced`), else None.
    """

    schema: Schema
    config: Config
    trained: Config
    options: Mapping[str, Any]
    strength: float | None

    @property
    def problem(self) -> Bilevel:
        """The bilevel problem of the point's settings."""
        return make_publisher(self.config, self.schema).problem


class Publishing(NamedTuple):
    """A publisher in two parts, both pure and traceable.

    Attributes:
      train: `train(key, records) -> state`, a pytree; None where nothing is trained.
      release: `release(key, state, records, strength) -> Release`; `strength` is a float32 scalar,
        to be ignored where it is not data.
      training: what training depends on beside data and code, as JSON: equal texts of one module
        share their states.
      train_modules: where training's code is; what these import is in the fingerprint too.
      modules: the same of the release.
    """

    train: Callable[[Array, Records], Any] | None
    release: Callable[[Array, Any, Records, Array], Release]
    training: Any
    train_modules: tuple[str, ...]
    modules: tuple[str, ...]


class Modelling(NamedTuple):
    """A model that is trained on the raw data, and released instead of any.

    Attributes:
      fit: `fit(key, records, strength)` gives `log_probs(x [n, ...]) -> [n, C]`, which takes
        features in the layout of `Records.x`; pure and traceable, normalisation included.
      modules: see `Publishing`.
    """

    fit: Callable[[Array, Records, Array], Callable[[Array], Array]]
    modules: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Amounts:
    """Which strengths a kind takes.

    Attributes:
      least: the smallest one.
      most: the largest one.
      whole: whole numbers alone.
      positive: not zero either.
    """

    least: float = 0.0
    most: float = math.inf
    whole: bool = False
    positive: bool = False

    def refusal(self, amount: float) -> str:
        """What a strength must be, if it is not; else nothing."""
        fits = self.least <= amount <= self.most and (amount > 0 or not self.positive)
        if fits and (not self.whole or float(amount).is_integer()):
            return ""
        text = "a whole number" if self.whole else "a number"
        if self.most < math.inf:
            return f"{text} from {self.least:g} to {self.most:g}"
        return f"{text} above 0" if self.positive else f"{text} of at least {self.least:g}"


@dataclasses.dataclass(frozen=True)
class Kind:
    """How an entry is built.

    Attributes:
      build: makes `Publishing`, or `Modelling` in `MODELS`.
      traced: strength is data, so that a sweep compiles once; else one is built for each strength,
        as a noise that is calibrated to an epsilon on the host needs.
      settings: what the builder was made with.
      mixtures: what the attacker knows of its images; see `stages.attacker.attacker_of`.
      amounts: the strengths that it takes; they bypass its constructor where they are data.
      reads: the settings of a publication or training that it reads; None for all of them. An entry
        that changes another one is refused: it would be the same under another name.
    """

    build: Callable[[Asked], Any]
    traced: bool = True
    settings: Any = None
    mixtures: Mixtures = "none"
    amounts: Amounts = Amounts()
    reads: frozenset[str] | None = None

    @property
    def source(self) -> str:
        """What the builder itself does, for the fingerprint: its source and its settings."""
        texts = [inspect.getsource(f) for f in (self.build, shared_generator)]
        return repr((texts, self.settings))


NOTHING = frozenset[str]()
COPIES = frozenset({"publish.copies"})


def on_features(
    cls: type[Any], *, amounts: Amounts, mixtures: Mixtures = "none", **settings: Any
) -> Kind:
    """A publisher that trains nothing: `cls(schema=..., **settings)(key, records, strength)`.

    It publishes as many records as the others, where it is told how many.
    """
    counted = "copies" in (field.name for field in dataclasses.fields(cls))

    def build(asked: Asked) -> Publishing:
        copies = {"copies": asked.config.publish.copies} if counted else {}
        publisher = cls(schema=asked.schema, **(settings | copies | dict(asked.options)))
        return Publishing(
            train=None,
            release=lambda key, state, records, strength: publisher(key, records, strength),
            training=None,
            train_modules=(),
            modules=(type(publisher).__module__,),
        )

    made_with = (cls.__qualname__, settings)
    reads = COPIES if counted else NOTHING
    return Kind(build, settings=made_with, mixtures=mixtures, amounts=amounts, reads=reads)


def with_generator(
    cls: type[LatentPublisher], *, amounts: Amounts = Amounts(), **settings: Any
) -> Kind:
    """A publisher of the latent family, whose generators all of the family share."""

    def build(asked: Asked) -> Publishing:
        publisher = cls(
            schema=asked.schema,
            problem=asked.problem,
            **(settings | dict(asked.options)),
        )
        return shared_generator(asked, publisher.release, type(publisher).__module__)

    return Kind(build, settings=(cls.__qualname__, settings), amounts=amounts)


EPSILONS = Amounts(positive=True)
"""Where strength is epsilon."""


def in_one_part(make: Callable[[Asked], Any], *, reads: frozenset[str] | None = None) -> Kind:
    """A publisher that is made for each strength, and called as `publisher(key, records)`."""

    def build(asked: Asked) -> Publishing:
        publisher = make(asked)
        release = lambda key, state, records, strength: publisher(key, records)
        return Publishing(None, release, None, (), (type(publisher).__module__,))

    settings = _source_of(make)
    return Kind(build, traced=False, settings=settings, amounts=EPSILONS, reads=reads)


def in_two_parts(
    make: Callable[[Asked], Any],
    *,
    traced: bool = False,
    reads: frozenset[str] | None = None,
    trainer: Callable[[Any], Any] = lambda publisher: publisher,
) -> Kind:
    """A publisher whose release sees the trained state alone, as formal guarantees ask.

    Args:
      make: the publisher, with `train(key, records)` and `release(key, trained, *, records, ...)`,
        where `records` is their number.
      traced: `release` takes the strength as data; else `make` has it as `asked.strength`.
      reads: see `Kind`.
      trainer: what trains, within a `budget`; publishers with trainers of one class and budget, the
        same settings, options and strength share what was trained.
    """

    def build(asked: Asked) -> Publishing:
        publisher = make(asked)
        part = trainer(publisher)

        def release(key: Array, state: Any, records: Records, strength: Array) -> Release:
            more = {"strength": strength} if traced else {}
            return publisher.release(key, state, records=len(records), **more)

        settings = dataclasses.asdict(asked.trained)
        training = [settings[k] for k in ("model", "lower", "train", "publish")]
        training += [sorted(asked.options.items()), asked.strength, type(part).__qualname__]
        training += [repr(part.budget)]  # what options do not say counts, too
        train_modules = (type(part).__module__,)
        return Publishing(
            part.train, release, training, train_modules, (type(publisher).__module__,)
        )

    settings = _source_of(make)
    return Kind(build, traced=traced, settings=settings, amounts=EPSILONS, reads=reads)


def asked_model(make: Callable[[Asked], Any], *, amounts: Amounts = EPSILONS) -> Kind:
    """A model that is made for each strength.

    Args:
      make: the model, with `train(key, records) -> fitted` and `log_probs(fitted, x)`.
      amounts: the strengths that it takes.
    """

    def build(asked: Asked) -> Modelling:
        model = make(asked)

        def fit(key: Array, records: Records, strength: Array) -> Callable[[Array], Array]:
            del strength
            fitted = model.train(key, records)
            return lambda x: model.log_probs(fitted, x)

        return Modelling(fit, (type(model).__module__,))

    settings = _source_of(make)
    return Kind(build, traced=False, settings=settings, amounts=amounts, reads=NOTHING)


def _source_of(make: Callable[..., Any]) -> str:
    """A builder's source, and that of functions of its own module that it calls, at any depth."""
    texts: dict[str, str] = {}

    def add(fun: Any) -> None:
        texts[fun.__qualname__] = inspect.getsource(fun)
        codes = [fun.__code__]
        while codes:
            code = codes.pop()
            codes += [c for c in code.co_consts if inspect.iscode(c)]
            for name in code.co_names:
                called = fun.__globals__.get(name)
                own = inspect.isfunction(called) and called.__module__ == fun.__module__
                if own and called.__qualname__ not in texts:
                    add(called)

    add(make)
    return repr(sorted(texts.items()))


def shared_generator(asked: Asked, release: Callable[..., Release], module: str) -> Publishing:
    """Trains what `asked.trained` says, which does not depend on who publishes from it."""
    problem = make_publisher(asked.trained, asked.schema).problem
    trainer = PriorPublisher(schema=asked.schema, problem=problem)
    trained = dataclasses.asdict(asked.trained)
    return Publishing(
        train=trainer.train,
        release=release,
        training={k: trained[k] for k in ("model", "lower", "train", "publish")},
        train_modules=(LatentPublisher.__module__,),
        modules=(module,),
    )
