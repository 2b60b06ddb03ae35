"""How often something is tried again. Pure; all in seconds."""

import random
from dataclasses import dataclass

__all__ = ["LOOKS", "SAVES", "Pace", "spread", "until_next_look"]

LONGEST_ETA_SECONDS = 30.0


@dataclass(frozen=True)
class Pace:
    """Pauses that grow from `first` to `slowest`."""

    first: float
    factor: float
    slowest: float

    def after(self, pause: float) -> float:
        return min(pause * self.factor, self.slowest)


# Between two looks at a job that goes on.
LOOKS = Pace(first=2.0, factor=1.3, slowest=10.0)
# Between two tries to save a video whose link does not open: at first CDNs lag, later something is in the way.
SAVES = Pace(first=2.0, factor=1.5, slowest=300.0)


def spread(pause: float) -> float:
    """Nearly that pause: many that began together shall not go on together."""
    return pause * random.uniform(0.9, 1.1)


def until_next_look(pause: float, asked_for: float, eta: float) -> float:
    """The pause, unless the router asked for a longer one, or says that the job takes longer."""
    return max(spread(pause), asked_for, min(eta, LONGEST_ETA_SECONDS))
