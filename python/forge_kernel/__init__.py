"""Monte Carlo for insurance whose result is the same bytes on every machine.

>>> import forge_kernel
>>> result = forge_kernel.run("examples/insurance.json")
>>> result.hash
'9713d4c31d81f379c15038488610e1b052dc1e5fbe080a250c62ba6d90acd417'
"""

from . import models
from ._audit import Verdict, audit
from ._client import AsyncClient, Client, Job
from ._errors import EnvelopeError, ForgeError, JobError, MismatchError
from ._result import Result
from ._run import run
from ._table import Table
from .models import *  # noqa: F403

__all__ = [
    "AsyncClient",
    "Client",
    "EnvelopeError",
    "ForgeError",
    "Job",
    "JobError",
    "MismatchError",
    "Result",
    "Table",
    "Verdict",
    "audit",
    "run",
]
__all__ += models.__all__
