"""The base of the typed models, whose classes are generated from the JSON schemas."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .models.envelope import About, Artifacts, Policy


class Document:
    """An object of an envelope. Values are checked when the envelope is read, all at once."""

    # Names in the envelope of the fields that have another one here.
    _names: ClassVar[Mapping[str, str]] = {}

    def to_json(self) -> Any:
        """Returns the object as it is in the envelope.

        >>> import forge_kernel
        >>> forge_kernel.Lognormal(mean=100, cv=0.5).to_json()
        {'lognormal': {'cv': 0.5, 'mean': 100}}
        """
        return self._members()

    def _members(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        values = ((name, getattr(self, name)) for name in names)
        return {self._names.get(name, name): _to_json(value) for name, value in values if value is not None}


class Distribution(Document):
    """A distribution: one family with its parameters."""

    # Name of the family in the envelope.
    _family: ClassVar[str]
    # Whether the only parameter, `value`, has no name in the envelope.
    _is_plain: ClassVar[bool] = False

    def to_json(self) -> Any:
        """Returns the distribution as it is in the envelope."""
        members = self._members()
        return {self._family: members["value"] if self._is_plain else members}


class Factor(Document):
    """A factor that is drawn once a year."""

    def to_json(self) -> Any:
        """Returns the factor as it is in the envelope: its distribution next to its name."""
        members = self._members()
        distribution: dict[str, Any] = members.pop("distribution")
        return members | distribution


class Treaty(Document):
    """A reinsurance treaty."""

    _kind: ClassVar[str]

    def to_json(self) -> Any:
        """Returns the treaty as it is in the envelope."""
        return {"kind": self._kind, **self._members()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile(Document):
    """A model with everything else of its envelope."""

    _op: ClassVar[Mapping[str, Any]]

    seed: str | None = None
    """Text from which the random numbers follow: two models with the same seed see the same random
    years. Default: derived from the model."""
    job_id: str | None = None
    """The job's id. Default: derived from the envelope."""
    about: About | None = None
    """What the job is about, for readers of the report."""
    policy: Policy | None = None
    """How the job is run. No influence on the result."""
    artifacts: Artifacts | None = None
    """Which artifacts of the job are stored."""

    def to_json(self) -> Any:
        """Returns the args as they are in the envelope."""
        shared = {field.name for field in dataclasses.fields(Profile)}
        return {name: value for name, value in self._members().items() if name not in shared}

    def envelope(self) -> dict[str, Any]:
        """Returns the whole envelope.

        >>> import forge_kernel
        >>> trips = forge_kernel.Eta(iterations=1000, base_eta=60, traffic_mean=9, traffic_std_dev=3, seed="a")
        >>> trips.envelope()["seed"]
        {'mode': 'explicit', 'value': 'a'}
        """
        envelope: dict[str, Any] = {"op": dict(self._op), "args": self.to_json()}
        if self.job_id is not None:
            envelope["ctx"] = {"job_id": self.job_id}
        if self.seed is not None:
            envelope["seed"] = {"mode": "explicit", "value": self.seed}
        for name in ("about", "policy", "artifacts"):
            part: Document | None = getattr(self, name)
            if part is not None:
                envelope[name] = part.to_json()
        return envelope


def _to_json(value: Any) -> Any:
    if isinstance(value, Document):
        return value.to_json()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return [_to_json(element) for element in value]
    return value
