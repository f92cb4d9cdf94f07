"""Whose result it is, at collection: age in hours, days and years as the laboratory's clock and calendar count them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo

from interface.domain.facts import Subject
from interface.domain.model import PatientFacts, Priority, Sex, SpecimenFacts

MAX_SPECIMEN_AGE = timedelta(days=7)  # an unknown collection time lies between this long before receipt and receipt


def age_in_days(birth_date: date | None, at: datetime | date | None) -> int | None:
    """Whole days from birth to `at` (a date, or an instant's date in its own zone); None when unknown or impossible."""
    if birth_date is None or at is None:
        return None
    day = at.date() if isinstance(at, datetime) else at
    age_d = (day - birth_date).days
    return age_d if age_d >= 0 else None


def age_in_hours(birth_at: datetime | None, at: datetime | None) -> int | None:
    """Whole hours that passed from birth to `at`; None when unknown or impossible.

    Counted in UTC: two instants of one zone are subtracted by their wall clocks, which a change to summer time moves.
    """
    if birth_at is None or at is None:
        return None
    passed = at.astimezone(UTC) - birth_at.astimezone(UTC)
    return passed // timedelta(hours=1) if passed >= timedelta() else None


def age_in_years(birth_date: date | None, at: datetime | date | None) -> int | None:
    """Completed years. Who was born on 29 February completes one on 1 March where there is no such day."""
    if birth_date is None or at is None:
        return None
    years = at.year - birth_date.year - ((at.month, at.day) < (birth_date.month, birth_date.day))
    return years if years >= 0 else None


def years_of(subject: Subject) -> int | None:
    """Completed years at collection, from what the subject knows of its age."""
    if subject.birth_date is None or subject.age_d is None:
        return None
    return age_in_years(subject.birth_date, subject.birth_date + timedelta(days=subject.age_d))


def at_collection(
    patient: PatientFacts | None,
    specimen: SpecimenFacts | None,
    specimen_type: str,
    collected_at: datetime | None,
    zone: tzinfo,
) -> Subject:
    """The subject at one instant of collection. A birth after it is no age."""
    local = collected_at.astimezone(zone) if collected_at else None
    birth_date = patient.birth_date if patient else None
    birth_at = patient.birth_at if patient else None
    if birth_date is None and birth_at is not None:
        birth_date = birth_at.astimezone(zone).date()
    age_h = age_in_hours(birth_at, collected_at)
    born = age_h is not None or birth_at is None or collected_at is None
    return Subject(
        sex=patient.sex if patient else Sex.UNKNOWN,
        birth_date=birth_date,
        birth_at=birth_at,
        pregnant=specimen.pregnant if specimen else None,
        gestation_weeks=specimen.gestation_weeks if specimen else None,
        ward=specimen.ward if specimen else "",
        patient_group=specimen.patient_group if specimen else "",
        priority=specimen.priority if specimen else Priority.ROUTINE,
        received_at=specimen.received_at if specimen else None,
        specimen_type=specimen_type,
        collected_at=collected_at,
        age_h=age_h,
        age_d=age_in_days(birth_date, local) if born else None,
    )


def possible_collections(
    collected_at: datetime | None, received_at: datetime | None, born: datetime | None = None, *, hourly: bool = False
) -> tuple[datetime | None, ...]:
    """When the specimen was collected; where that is unknown, the first and last instant at which it may have been,
    which is not before its patient was `born`. `hourly`: and one in each hour between them, which no age in whole hours
    or days escapes."""
    if collected_at is not None or received_at is None:
        return (collected_at,)
    first = received_at - MAX_SPECIMEN_AGE
    if born is not None and first < born <= received_at:
        first = born.astimezone(UTC)
    if not hourly:
        return first, received_at
    hours = (received_at - first) // timedelta(hours=1)
    times = dict.fromkeys([*(first + timedelta(hours=hour) for hour in range(hours + 1)), received_at])
    return tuple(times)
