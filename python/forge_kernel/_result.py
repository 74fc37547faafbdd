"""The result of a job."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from ._errors import ForgeError
from ._table import Table, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Perspectives of the exceedance table of each profile, the first of which is the total of a year.
PERSPECTIVES = {"aep": "AEP", "oep": "OEP", "net": "net AEP", "gross": "gross AEP", "largest_occurrence": "gross OEP"}


class Result:
    """The result of a job: a pure function of its op, args and seed.

    :func:`forge_kernel.run` and :meth:`forge_kernel.Client.result` return it.
    """

    hash: str
    """SHA-256 of ``result.json``, hexadecimal: equal on every machine."""
    json: bytes
    """``result.json``, byte for byte."""
    job_id: str
    """Id of the job."""
    manifest: str | None
    """Where the manifest is; ``None`` if nothing was stored. :func:`forge_kernel.audit` takes it."""
    warnings: list[str]
    """What is probably not meant, although the envelope is valid."""
    seconds: float | None
    """Time of the execution, s; ``None`` if it ran elsewhere."""

    def __init__(
        self,
        json_bytes: bytes,
        *,
        hash: str,
        job_id: str,
        manifest: str | None = None,
        warnings: list[str] | None = None,
        seconds: float | None = None,
    ) -> None:
        self.json = json_bytes
        self.hash = hash
        self.job_id = job_id
        self.manifest = manifest
        self.warnings = warnings or []
        self.seconds = seconds
        self._document: dict[str, Any] = json.loads(json_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Returns ``result.json`` as Python objects.

        >>> import forge_kernel
        >>> run = forge_kernel.run("examples/minimal.json")
        >>> run.to_dict()["output"]["mean_loss"]
        1331.874228
        """
        document: dict[str, Any] = json.loads(self.json)
        return document

    @property
    def profile(self) -> str:
        """The profile, such as ``insurance.v1``."""
        return str(self._document["op"]["profile"])

    @property
    def iterations(self) -> int:
        """Iterations that were performed."""
        return int(self._document["iterations"]["performed"])

    @property
    def mean(self) -> float:
        """Mean of a year's total, or of a trip's duration; net of treaties if there are any."""
        return self._total_figure("mean")

    @property
    def std_error(self) -> float:
        """Standard error of the mean."""
        return self._total_figure("std_error")

    @property
    def quantiles(self) -> Table:
        """Value at risk and tail value at risk at each level, with 95% confidence intervals.

        >>> import forge_kernel
        >>> forge_kernel.run("examples/minimal.json").quantiles["level"]
        [0.5, 0.9, 0.95, 0.99, 0.995, 0.999]
        """
        return Table.from_rows(self._total()["quantiles"])

    @property
    def exceedance(self) -> Table:
        """Exceedance by return period: of a year's total and of its largest loss.

        >>> import forge_kernel
        >>> table = forge_kernel.run("examples/minimal.json").exceedance
        >>> table["return_period"][:3]
        [2, 5, 10]
        """
        return self._table("exceedance")

    @property
    def lines(self) -> Table:
        """Figures of each line of business before treaties.

        >>> import forge_kernel
        >>> forge_kernel.run("examples/portfolio.json").lines["name"]
        ['property', 'motor', 'liability']
        """
        return self._table("lines")

    @property
    def treaties(self) -> Table:
        """Figures of each treaty: what it pays in a year, and its premiums.

        >>> import forge_kernel
        >>> forge_kernel.run("examples/portfolio.json").treaties["rate_on_line"]
        [None, None, 0.13, 0.0475, 0.036]
        """
        return self._table("treaties")

    @property
    def allocation(self) -> Table:
        """The tail of the net total by line and treaty: a row for each level and part.

        Amounts of treaties are negative, so that the parts of a level add up to ``net``.

        >>> import forge_kernel
        >>> table = forge_kernel.run("examples/portfolio.json").allocation
        >>> table.rows()[0]["part"]
        'property'
        """
        args = self._document["args"]
        signed = [(line, "lines", index, 1) for index, line in enumerate(args.get("lines") or [])]
        treaties = enumerate(args.get("treaties") or [])
        signed += [(treaty["name"], "treaties", index, -1) for index, treaty in treaties]
        rows = []
        for entry in self._rows("allocation"):
            for part, kind, index, sign in signed:
                tail, at = entry["tail"][kind][index], entry["at_quantile"][kind][index]
                rows.append({"level": entry["level"], "part": part, "tail": sign * tail, "at_quantile": sign * at})
            net = {"tail": entry["tail"]["net"], "at_quantile": entry["at_quantile"]["net"]}
            rows.append({"level": entry["level"], "part": "net", **net})
        return Table.from_rows(rows)

    def plot_ep(self, ax: Axes | None = None) -> Axes:
        """Plots losses by return period with matplotlib, which must be installed.

        Lines are values at risk; the band is the 95% confidence interval of the first one.

        >>> import forge_kernel
        >>> axes = forge_kernel.run("examples/minimal.json").plot_ep()
        >>> axes.get_xlabel()
        'Return period, years'
        """
        table = self.exceedance
        if ax is None:
            ax = require("matplotlib.pyplot", "plot_ep").figure().subplots()
        periods: Any = table["return_period"]
        names = [name for name in PERSPECTIVES if f"{name}_var" in table.columns]
        for name in names:
            values: Any = table[f"{name}_var"]
            ax.plot(periods, values, label=PERSPECTIVES[name], linestyle="-" if name == names[0] else "--")
        low: Any = table[f"{names[0]}_var_low"]
        high: Any = table[f"{names[0]}_var_high"]
        ax.fill_between(periods, low, high, alpha=0.2)
        ax.set_xscale("log")
        ax.set_xlabel("Return period, years")
        ax.set_ylabel("Loss")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        return f"<Result of {self.profile}: {self.iterations:,} iterations, mean {self.mean:,.2f}, hash {self.hash}>"

    def _repr_html_(self) -> str:
        facts = [
            ("Profile", self.profile),
            ("Iterations", f"{self.iterations:,}"),
            ("Mean", f"{self.mean:,.2f} (standard error {self.std_error:,.2f})"),
            ("SHA-256 of result.json", self.hash),
        ]
        facts += [("Warning", warning) for warning in self.warnings]
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts)
        return f"<h4>Job {escape(self.job_id)}</h4><table>{rows}</table>{self.quantiles._repr_html_()}"

    def _output(self) -> dict[str, Any]:
        output: dict[str, Any] = self._document["output"]
        return output

    def _total(self) -> dict[str, Any]:
        """The object with the figures of the total."""
        output = self._output()
        total: dict[str, Any] = output.get("net", output)
        return total

    def _total_figure(self, name: str) -> float:
        total = self._total()
        # Profiles without lines name the mean after what it is the mean of.
        names = (name, f"{name}_loss", f"{name}_eta")
        return float(next(total[name] for name in names if name in total))

    def _rows(self, member: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] | None = self._output().get(member)
        if rows is None:
            raise ForgeError(f"the result of {self.profile} has no {member}")
        return rows

    def _table(self, member: str) -> Table:
        return Table.from_rows(self._rows(member))
