"""Driving what is missing, resuming, judging anew, repeating what is unexpected."""

from __future__ import annotations

from pathlib import Path

import pytest
from validating import Bench, FakeDriver, digests, mutant, question, record

from devstack.artifacts import Artifact
from grader.validate.schedule import BESIDE
from grader.validate.units import Driven, Hardware, Unit


def as_expected(unit: Unit, attempt: int) -> Artifact:
    return record(unit.scenario, "of-calm", "of-wait", "of-both", "of-load")


def disturbed_record(unit: Unit) -> Driven:
    artifact = record(unit.scenario).model_copy(update={"facts": {"disturbed": True}})
    return Driven(date="2026-01-01", duration_s=1.0, lanes=9, machine=Hardware.here(), artifact=artifact)


def nothing_falls(unit: Unit, attempt: int) -> Artifact:
    return record(unit.scenario)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_only_what_the_expected_checks_need_is_driven(bench: Bench) -> None:
    driver = FakeDriver(as_expected)
    ended = await bench.run(question(mutant("one", "of-calm"), mutant("two", "of-both", also={"of-calm": "w", "of-wait": "w"})), driver)  # fmt: skip
    assert sorted(driver.driven) == [("one", "calm", 1), ("two", "calm", 1), ("two", "wait", 1)]
    assert {(one.subject, one.check, one.result) for one in ended.findings} == {
        ("one", "of-calm", "falls"),
        ("two", "of-calm", "falls"),
        ("two", "of-wait", "falls"),
        ("two", "of-both", "falls"),
    }
    assert (ended.driven, ended.repeated, ended.missing) == (3, 0, 0)


async def test_exhaustive_drives_every_scenario(bench: Bench) -> None:
    driver = FakeDriver(lambda unit, attempt: record(unit.scenario, "of-calm"))
    await bench.run(question(mutant("one", "of-calm"), exhaustive=True), driver)
    assert {scenario for _, scenario, _ in driver.driven} == {"calm", "wait", "load"}


async def test_what_was_driven_is_not_driven_again(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"))
    await bench.run(asked, FakeDriver(as_expected))
    second = FakeDriver(nothing_falls)
    ended = await bench.run(asked, second)
    assert second.driven == []
    assert [one.result for one in ended.findings] == ["falls"]


async def test_an_interruption_loses_only_what_was_being_driven(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"), mutant("two", "of-calm"), mutant("three", "of-calm"))

    def interrupted(unit: Unit, attempt: int) -> Artifact:
        if unit.subject == "two":
            raise OSError("the machine went down")
        return as_expected(unit, attempt)

    with pytest.raises(ExceptionGroup):
        await bench.run(asked, FakeDriver(interrupted))
    resumed = FakeDriver(as_expected)
    ended = await bench.run(asked, resumed)
    assert resumed.driven == [("two", "calm", 1), ("three", "calm", 1)]
    assert ended.missing == 0


async def test_a_record_without_its_row_is_judged_not_driven(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"))
    await bench.run(asked, FakeDriver(as_expected))
    bench.evidence.path.unlink()
    ended = await bench.run(asked, None)
    assert (ended.driven, ended.missing) == (0, 0)
    assert [one.result for one in ended.findings] == ["falls"]


async def test_an_edited_check_is_judged_anew_from_the_cache(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"))
    await bench.run(asked, FakeDriver(as_expected))
    calls = bench.judging.calls
    driver = FakeDriver(as_expected)
    ended = await bench.run(asked, driver, today=digests("one", checks="edited"))
    assert driver.driven == []
    assert bench.judging.calls == calls + 1
    assert ended.stale == 1
    assert len(bench.evidence.read(digests("one", checks="edited")).rows) == 1


async def test_an_edited_scenario_is_driven_anew(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"))
    await bench.run(asked, FakeDriver(as_expected))
    driver = FakeDriver(as_expected)
    ended = await bench.run(asked, driver, today=digests("one", scenarios="edited"))
    assert driver.driven == [("one", "calm", 1)]
    assert ended.stale == 1


async def test_fresh_drives_again_and_takes_the_place_of_what_was(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"))
    await bench.run(asked, FakeDriver(nothing_falls))
    driver = FakeDriver(as_expected)
    ended = await bench.run(asked, driver, fresh=True)
    assert driver.driven == [("one", "calm", 1)]
    assert [(one.result, one.observations) for one in ended.findings] == [("falls", 1)]
    assert len(bench.evidence.read(digests("one")).rows) == 1


@pytest.mark.parametrize("kind", ["trouble", "blocked"])
async def test_trouble_is_driven_once_more(bench: Bench, kind: str) -> None:
    def troubled_once(unit: Unit, attempt: int) -> Artifact:
        return record(unit.scenario, outcome=kind) if attempt == 1 else as_expected(unit, attempt)

    driver = FakeDriver(troubled_once)
    ended = await bench.run(question(mutant("one", "of-calm")), driver)
    assert driver.driven == [("one", "calm", 1), ("one", "calm", 2)]
    assert [one.result for one in ended.findings] == ["falls"]


async def test_trouble_twice_is_undecided(bench: Bench) -> None:
    driver = FakeDriver(lambda unit, attempt: record(unit.scenario, outcome="trouble"))
    ended = await bench.run(question(mutant("one", "of-calm")), driver)
    assert len(driver.driven) == 2
    assert [(one.result, one.told) for one in ended.findings] == [("errored", "trouble")]


@pytest.mark.parametrize(("falls_at", "result"), [({2, 3}, "falls"), ({3}, "holds"), (set(), "holds")])
async def test_a_miss_is_driven_twice_more_and_the_median_decides(
    bench: Bench, falls_at: set[int], result: str
) -> None:
    driver = FakeDriver(
        lambda unit, attempt: record(unit.scenario, *(["of-calm"] if attempt in falls_at else []))
    )
    ended = await bench.run(question(mutant("one", "of-calm")), driver)
    assert driver.driven == [("one", "calm", 1), ("one", "calm", 2), ("one", "calm", 3)]
    assert (ended.driven, ended.repeated) == (3, 2)
    assert [(one.result, one.observations) for one in ended.findings] == [(result, 3)]
    assert [row.attempt for row in bench.evidence.read(digests("one")).rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("disturbed", "attempts", "result"),
    [({1}, 2, "falls"), ({1, 2}, 3, "falls"), ({1, 2, 3, 4, 5}, 3, "errored")],
)
async def test_what_was_disturbed_is_driven_again(
    bench: Bench, disturbed: set[int], attempts: int, result: str
) -> None:
    def shaken(unit: Unit, attempt: int) -> Artifact:
        artifact = as_expected(unit, attempt)
        return artifact.model_copy(update={"facts": {**artifact.facts, "disturbed": attempt in disturbed}})

    driver = FakeDriver(shaken)
    ended = await bench.run(question(mutant("one", "of-calm")), driver)
    assert len(driver.driven) == attempts
    assert [(one.result, one.excused) for one in ended.findings] == [(result, result == "errored")]


async def test_a_unit_that_is_disturbed_each_time_is_given_up(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"))
    disturbed = record("calm").model_copy(update={"facts": {"disturbed": True}})
    for _ in range(4):
        ended = await bench.run(asked, FakeDriver(lambda unit, attempt: disturbed))
    assert ended.driven == 0
    assert len(ended.rows) == 5


async def test_a_false_alarm_is_repeated_and_only_its_scenarios(bench: Bench) -> None:
    def alarm(unit: Unit, attempt: int) -> Artifact:
        both = unit.scenario == "wait" and attempt == 1
        return record(unit.scenario, "of-calm", *(["of-wait"] if both else []))

    driver = FakeDriver(alarm)
    asked = question(mutant("one", "of-calm", also={"of-both": "w", "of-load": "w"}), exhaustive=True)
    ended = await bench.run(asked, driver)
    assert [one for one in driver.driven if one[2] > 1] == [("one", "wait", 2), ("one", "wait", 3)]
    assert not any(one.unexpected for one in ended.findings)


async def test_repetitions_have_the_company_of_a_run(bench: Bench) -> None:
    asked = question(*(mutant(f"m{number}", "of-calm", "of-wait") for number in range(9)))
    for unit in asked.units(digests(*(subject.name for subject in asked.subjects))):
        bench.cache.write(unit, 1, disturbed_record(unit))
    again = FakeDriver(nothing_falls)
    ended = await bench.run(asked, again, lanes=3, packed=True)
    assert again.together == {"wait": 6, "calm": 1}
    assert {attempt for _, _, attempt in again.driven} == {2, 3, 4}
    assert len(again.driven) == len(set(again.driven)) == ended.repeated


async def test_what_was_repeated_before_is_not_repeated_for_ever(bench: Bench) -> None:
    asked = question(mutant("one", "of-calm"))
    await bench.run(asked, FakeDriver(nothing_falls))
    again = FakeDriver(nothing_falls)
    ended = await bench.run(asked, again)
    assert again.driven == []
    assert [one.missed for one in ended.findings] == [True]


async def test_a_note_that_falls_is_nobodys_false_alarm(bench: Bench) -> None:
    driver = FakeDriver(lambda unit, attempt: record(unit.scenario, "of-calm", "of-wait"))
    ended = await bench.run(question(mutant("one", "of-calm"), exhaustive=True), driver, notes=("of-wait",))
    assert [one.check for one in ended.findings if one.explained] == ["of-wait"]
    assert ended.repeated == 0


async def test_without_a_driver_what_is_missing_is_counted(bench: Bench) -> None:
    ended = await bench.run(question(mutant("one", "of-both")), None)
    assert (ended.driven, ended.missing, ended.findings) == (0, 2, ())


async def test_waiting_units_run_side_by_side_quiet_ones_in_lanes_and_the_load_alone(bench: Bench) -> None:
    subjects = [mutant(f"m{number}", "of-calm", "of-wait", "of-both", "of-load") for number in range(9)]
    driver = FakeDriver(as_expected)
    await bench.run(question(*subjects, exhaustive=True), driver, lanes=2)
    assert driver.together == {"wait": 6, "calm": 2, "load": 1}
    assert driver.beside_load == 0


async def test_packed_waiting_units_run_beside_the_others(bench: Bench) -> None:
    subjects = [mutant(f"m{number}", "of-calm", "of-wait", "of-both", "of-load") for number in range(9)]
    driver = FakeDriver(as_expected)
    ended = await bench.run(question(*subjects, exhaustive=True), driver, lanes=2, packed=True)
    assert (ended.driven, ended.missing) == (27, 0)
    assert len(set(driver.driven)) == 27
    assert 1 <= driver.together["wait"] <= 6
    assert (driver.together["calm"], driver.together["load"]) == (2, 1)
    # all of them fit beside the load, which leaves more of the machine free
    assert {row.lanes for row in ended.rows if row.scenario == "load"} == {1 + BESIDE}
    assert {row.lanes for row in ended.rows if row.scenario == "calm"} == {2}


async def test_packed_what_does_not_fit_beside_the_load_runs_beside_the_others(bench: Bench) -> None:
    subjects = [mutant(f"m{number}", "of-calm", "of-wait") for number in range(9)]
    driver = FakeDriver(as_expected)
    ended = await bench.run(question(*subjects), driver, lanes=2, packed=True)
    first = [row for row in ended.rows if row.attempt == 1]
    assert {row.lanes for row in first if row.scenario == "calm"} == {2 + BESIDE}


async def test_a_check_of_two_scenarios_whose_records_were_never_together_is_driven_again(
    bench: Bench,
) -> None:
    asked = question(mutant("one", "of-both", also={"of-calm": "w", "of-wait": "w"}))
    await bench.run(asked, FakeDriver(as_expected))
    lines = bench.evidence.path.read_text().splitlines(keepends=True)
    bench.evidence.path.write_text("".join(line.replace('"of-both"', '"gone"') for line in lines))
    for unit in asked.units(digests("one")):
        if unit.scenario == "calm":
            bench.cache.forget(unit)
    driver = FakeDriver(as_expected)
    ended = await bench.run(asked, driver)
    assert driver.driven == [("one", "calm", 1)]
    assert {(one.check, one.result) for one in ended.findings if one.check == "of-both"} == {
        ("of-both", "falls")
    }


async def test_the_same_tree_under_another_name_has_rows_of_its_own_from_the_same_record(
    bench: Bench,
) -> None:
    await bench.run(question(mutant("one", "of-calm")), FakeDriver(as_expected))
    today = digests("two")
    renamed = type(today)({"two": "tree of one"}, today.scenarios, today.checks)
    driver = FakeDriver(nothing_falls)
    ended = await bench.run(question(mutant("two", "of-calm")), driver, today=renamed)
    assert driver.driven == []
    assert [(one.subject, one.result) for one in ended.findings] == [("two", "falls")]
