"""docs/explanation/mutants.md is what was measured, and no survivor is without a reason."""

from tests.mutation.page import killed_share, page_of, read_results
from tests.mutation.targets import AIM, PAGE, PROJECT, TARGETS


def test_the_page_is_made_from_the_recorded_results() -> None:
    assert PAGE.read_text() == page_of(read_results(PROJECT))


def test_every_measured_module_meets_the_aim_and_each_survivor_has_its_reason() -> None:
    for name, result in read_results(PROJECT).items():
        assert killed_share(result) >= AIM, name
        assert [each["becomes"] for each in result["survivors"] if not each["reason"]] == [], name


def test_every_module_and_its_tests_exist() -> None:
    for target in TARGETS.values():
        assert (PROJECT / target.module).is_file()
        assert all((PROJECT / each.partition("::")[0]).is_file() for each in target.tests)
