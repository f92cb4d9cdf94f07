"""What a stream of quality control is at any time, written once more from what was agreed and as simply as it can be:
no steps from state to state but whole episodes. Slow. For tests that compare it with what runs.

* A run with an acceptable point of every level that is wanted, while nothing has failed, vouches.
* A rejected point begins an episode. It lasts until each level that failed in it was acceptable again after the last
  rejection, and a corrective action about that rejection was documented after it was known; in either order.
* What stands by a person's word is as good as it was before the failure: not known where nothing had vouched.
* From the last run that vouched (or the end of the episode before) everything is suspect until the controls were good
  again: held while the episode lasts and after it where it is to be measured again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from interface.domain.facts import QcState
from interface.domain.qc import QcVerdict
from interface.domain.qc_state import BEGIN, END, Acted, Meanwhile, Measured

GOOD = (QcVerdict.ACCEPT, QcVerdict.WARN)


@dataclass(slots=True)
class Episode:
    """`since` None: nothing had vouched before it. `ended`: it was made good, and how."""

    since: datetime | None
    rejected: list[Measured]
    good: dict[int, Measured] = field(default_factory=dict)  # acceptable after the last rejection, by level
    good_at: datetime | None = None
    action: Acted | None = None

    @property
    def failed(self) -> set[int]:
        return {one.level for one in self.rejected}

    @property
    def ended(self) -> bool:
        return self.action is not None and self.good_at is not None


@dataclass(slots=True)
class Model:
    """A stream after everything that is known of it."""

    episodes: list[Episode] = field(default_factory=list)
    vouched: list[datetime] = field(default_factory=list)

    def now(self) -> QcState:
        if self.episodes and not self.episodes[-1].ended:
            return QcState.FAIL
        return QcState.OK if self.vouched else QcState.UNKNOWN

    def at(self, when: datetime) -> QcState:
        """Warnings are OK here; nothing expires."""
        for one in self.episodes:
            good_at = one.good_at if one.ended and one.good_at else END
            if (one.since or BEGIN) <= when < good_at:
                stands = one.action is not None and one.ended and one.action.meanwhile is Meanwhile.STANDS
                if not stands:
                    return QcState.FAIL
                good = one.since is not None and any(at <= one.since for at in self.vouched)
                return QcState.OK if good else QcState.UNKNOWN
        return QcState.OK if any(at <= when for at in self.vouched) else QcState.UNKNOWN


def model(points: Iterable[Measured], actions: Sequence[Acted] = ()) -> Model:
    known: Mapping[str, Measured] = {one.id: one for one in points}

    def place(event: Measured | Acted) -> tuple[datetime, bool, str]:
        if isinstance(event, Measured):
            return event.at, False, event.id
        about = known.get(event.about)
        return max(event.at, about.at) if about else event.at, True, event.id

    made = Model()
    runs: dict[str, dict[int, Measured]] = {}
    events: list[Measured | Acted] = [*known.values(), *actions]
    for event in sorted(events, key=place):
        episode = made.episodes[-1] if made.episodes and not made.episodes[-1].ended else None
        if isinstance(event, Acted):
            if episode and event.about == episode.rejected[-1].id:
                if event.at >= max(one.known_at for one in episode.rejected):
                    episode.action = event
        elif event.verdict is QcVerdict.REJECT:
            _reject(made, episode, event, runs)
        elif event.verdict in GOOD and not event.excluded:
            run = runs.setdefault(event.run, {})
            run[event.level] = event
            if episode:
                episode.good[event.level] = event
                if episode.good_at is None and episode.failed <= set(episode.good):
                    episode.good_at = event.at
            elif event.whole(run.keys()):
                made.vouched.append(event.at)
        if episode and episode.ended:
            _end(made, episode, runs)
    return made


def _reject(made: Model, episode: Episode | None, point: Measured, runs: dict[str, dict[int, Measured]]) -> None:
    if episode is None:
        ends = [one.good_at for one in made.episodes if one.good_at]
        since = max([*made.vouched, *ends], default=None)
        of_run = {level: one for level, one in runs.get(point.run, {}).items() if level != point.level}
        made.episodes.append(Episode(since, [point], of_run))
    else:
        episode.rejected.append(point)
        episode.good = {level: one for level, one in episode.good.items() if level not in episode.failed}
        episode.good_at, episode.action = None, None
    runs.clear()  # what was acceptable before a rejection makes no run whole after it


def _end(made: Model, episode: Episode, runs: dict[str, dict[int, Measured]]) -> None:
    """The levels that were shown to be good vouch, where they are all that a run has to have."""
    assert episode.good_at is not None
    last = max(episode.good.values(), key=lambda one: (one.at, one.id))
    if last.whole(episode.good.keys()):
        made.vouched.append(episode.good_at)
