"""The guards of the protocol, each with the edit that takes it out and the tests that must turn red without it."""

from tests.mutants.access import ACCESS
from tests.mutants.again import AGAIN
from tests.mutants.bounds import BOUNDS
from tests.mutants.cache import CACHE
from tests.mutants.control import CONTROL
from tests.mutants.events import EVENTS
from tests.mutants.exports import EXPORTS
from tests.mutants.inputs import INPUTS
from tests.mutants.letters import LETTERS
from tests.mutants.mutant import Mutant
from tests.mutants.protocol import PROTOCOL
from tests.mutants.rights import RIGHTS
from tests.mutants.runner import RUNNER
from tests.mutants.ways_in import WAYS_IN
from tests.mutants.webhooks import WEBHOOKS

MUTANTS = (
    *PROTOCOL,
    *CONTROL,
    *LETTERS,
    *CACHE,
    *RUNNER,
    *INPUTS,
    *EVENTS,
    *WAYS_IN,
    *EXPORTS,
    *ACCESS,
    *RIGHTS,
    *WEBHOOKS,
    *BOUNDS,
    *AGAIN,
)

__all__ = ["MUTANTS", "Mutant"]
