"""Whether something outside the submission explains what a scenario saw: decided from its record, by one table.

A disturbance makes everything slower, later or fail; it makes nothing right that is wrong. So a check that passes is
believed, and one that does not is asked again (see :mod:`grader.errors` and docs/decisions/0007).

::

    what was recorded                                            what it means
    submission's memory > 25 % of the machine's                  its own doing: nothing is excused
    memory available < 5 % of the machine's                      disturbed
    CPU short for ≥ 1.5 s because of others, and meanwhile
        the submission used more than 60 % of the machine        its own doing
        it did not                                               disturbed
    p99 of the grader's loop lag > 50 ms (quiet scenario; else > 250 ms), and meanwhile
        submission and its database used > 50 % of the machine   its own doing
        they did not                                             disturbed
"""

from __future__ import annotations

from collections.abc import Sequence

from devstack.artifacts import Disturbance, MachineSample

ROOM_CORES = 1.25
"""What a run needs to itself: a service, its database, stubs and the grader. On one core: two thirds of it."""

ROOM_SHARE = 0.65
CROWDED_BUSY, CROWDED_FOREIGN = 0.9, 0.35
"""On more cores: nearly all of them are busy, and others have more than a third."""

CONTENDED_S = 1.5
"""Shorter bursts stay below what medians, p95 and margins of a fifth and more bear."""

HOG_SHARE = 0.6
"""A submission above this share of the cores competes with itself. One process that spins on two cores is below."""

LAG_SHARE = 0.5
"""Submission and database below this leave the grader enough; if its loop is late all the same, it is not their doing."""

QUIET_LAG_S, PATIENT_LAG_S = 0.05, 0.25
SCARCE_MEMORY, HOG_MEMORY = 0.05, 0.25


def excuse(found: Disturbance | None) -> str | None:
    """Why a check that did not pass may not be the submission's fault; ``None`` if nothing excuses it."""
    if found is None or not found.samples:
        return None
    if any(sample.submission_mib > HOG_MEMORY * found.memory_mib for sample in found.samples):
        return None
    return _scarce_memory(found) or _short_of_cpu(found) or _late_loop(found)


def _scarce_memory(found: Disturbance) -> str | None:
    available = [sample.available_mib for sample in found.samples if sample.available_mib is not None]
    if not available or min(available) >= SCARCE_MEMORY * found.memory_mib:
        return None
    return f"only {min(available)} of {found.memory_mib} MiB of memory were left"


def _short_of_cpu(found: Disturbance) -> str | None:
    contended = [sample for sample in found.samples if _contended(sample, found.cores)]
    seconds = sum(sample.seconds for sample in contended)
    if seconds < CONTENDED_S or _mean_submission(contended) > HOG_SHARE * found.cores:
        return None
    foreign = sum(sample.foreign * sample.seconds for sample in contended) / seconds
    return f"other programs used {foreign:.1f} of {found.cores:g} cores for {seconds:.0f} s"


def _contended(sample: MachineSample, cores: float) -> bool:
    if cores - sample.foreign < min(ROOM_CORES, ROOM_SHARE * cores):
        return True
    return sample.busy >= CROWDED_BUSY * cores and sample.foreign >= CROWDED_FOREIGN * cores


def _late_loop(found: Disturbance) -> str | None:
    limit_s = QUIET_LAG_S if found.quiet else PATIENT_LAG_S
    if found.lag_p99_s <= limit_s:
        return None
    late = [sample for sample in found.samples if sample.lag_worst_s > limit_s]
    if _mean_submission(late, with_database=True) > LAG_SHARE * found.cores:
        return None
    return f"the grader itself was {found.lag_p99_s * 1000:.0f} ms late (p99)"


def _mean_submission(samples: Sequence[MachineSample], *, with_database: bool = False) -> float:
    """Cores used on average by the submission in ``samples``."""
    seconds = sum(sample.seconds for sample in samples)
    used = sum(
        (sample.submission + (sample.database if with_database else 0.0)) * sample.seconds
        for sample in samples
    )
    return used / seconds if seconds else 0.0
