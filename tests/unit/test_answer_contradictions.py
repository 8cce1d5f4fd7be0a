"""Which pairs of findings contradict each other: a table, and its precision and recall."""

import pytest

from manyhands.teams.answer.claims import Finding
from manyhands.teams.answer.contradictions import contradictions

#: Both cannot be true of one thing.
CONFLICTS = [
    ("The default timeout is 30 seconds.", "The default timeout is 60 seconds."),
    ("Redis keeps its data in memory.", "Redis does not keep its data in memory."),
    ("The free plan allows 5 projects.", "The free plan allows 10 projects."),
    ("SQLite supports concurrent writers.", "SQLite does not support concurrent writers."),
    ("The library was released in 2014.", "The library was released in 2016."),
    ("Uploads are limited to 20 MB.", "Uploads are limited to 50 MB."),
    ("The API requires a token.", "The API does not require a token."),
    ("Passwords are stored in plain text.", "Passwords are never stored in plain text."),
    ("The treaty was signed by 11 states.", "The treaty was signed by 14 states."),
    ("Caching is enabled by default.", "Caching is disabled by default."),
    ("Revenue rose by 4 percent in 2023.", "Revenue fell by 4 percent in 2023."),
    ("The drug is safe during pregnancy.", "The drug is not safe during pregnancy."),
    ("Flask ships with an ORM.", "Flask does not ship with an ORM."),
    ("Workers share memory.", "Workers do not share memory."),
    ("The station has 4 platforms.", "The station has six platforms."),
    ("The parser runs before the linker.", "The parser runs after the linker."),
    ("The battery lasts 12 hours.", "The battery lasts eight hours."),
    ("The tower is 324 metres tall.", "The tower is 300 m tall."),
    ("The lake freezes in winter.", "The lake never freezes in winter."),
    ("A restart is needed after an upgrade.", "No restart is needed after an upgrade."),
    ("Logs are kept for 30 days.", "Logs are kept for 90 days."),
    ("The map is sorted by key.", "The map is not sorted by key."),
    ("Reads are faster than writes.", "Writes are faster than reads."),
    ("The trial enrolled 4,812 patients.", "The trial enrolled 4,182 patients."),
    ("The committee accepted the proposal.", "The committee rejected the proposal."),
    ("Python 3.12 removed distutils.", "Python 3.12 did not remove distutils."),
    ("The index is rebuilt on every start.", "The index is not rebuilt on every start."),
    ("The museum is closed on Mondays.", "The museum is open on Mondays."),
    ("The vaccine is 87% effective.", "The vaccine is 78% effective."),
    ("Kafka guarantees order within a partition.", "Kafka guarantees no order within a partition."),
    ("The licence allows commercial use.", "The licence does not allow commercial use."),
    ("The field is required.", "The field is optional."),
    ("Water boils at 93 °C in Quito.", "Water boils at 90 °C in Quito."),
    ("Nobody was injured in the fire.", "Three people were injured in the fire."),
    ("The rate limit is 100 requests per minute.", "The rate limit is 60 requests per minute."),
    # The same subject in differing words.
    ("By default, a request times out after 30 seconds.", "Requests time out after 10 seconds."),
    ("There is support for nested transactions.", "Nested transactions are not supported."),
    ("Sessions expire after 30 minutes.", "A session times out after 45 minutes."),
    ("The bridge cost 1.4 million crowns.", "The bridge cost 2.1 million crowns to build."),
    ("Deleting a user deletes their files.", "Deleting a user does not delete their files."),
]

#: Both may be true.
COMPATIBLE = [
    ("FastAPI handles 9,000 requests per second.", "Flask handles 2,100 requests per second."),
    ("In 2021 revenue was 4 million dollars.", "In 2022 revenue was 5 million dollars."),
    ("On Linux the limit is 1024 files.", "On Windows the limit is 512 files."),
    ("The default timeout is 30 seconds.", "The default port is 8080."),
    ("The tower is 324 metres tall.", "The tower weighs 10,100 tonnes."),
    ("The trip takes 3 hours.", "The trip takes 180 minutes."),
    ("The cache holds 500 entries.", "The cache keeps entries for 60 seconds."),
    ("Redis supports transactions.", "Memcached does not support transactions."),
    ("Flask does not include an ORM.", "Django includes an ORM."),
    ("The API requires a token.", "The API needs a token."),
    ("Caching is disabled by default.", "Caching is not enabled by default."),
    ("At most five files may be uploaded.", "No more than 5 files may be uploaded."),
    ("The limit is 20 MB for images.", "The limit is 50 MB for videos."),
    ("Men earned 31 dollars per hour.", "Women earned 27 dollars per hour."),
    ("The morning ferry takes 40 minutes.", "The evening ferry takes 55 minutes."),
    ("Version 2 supports Python 3.8.", "Version 3 does not support Python 3.8."),
    ("GET responses are cached.", "POST responses are not cached."),
    ("Reads are faster than writes.", "Writes are slower than reads."),
    ("The study followed 96 students.", "The study followed students for 6 weeks."),
    ("The bridge was started in 1898.", "The bridge was completed in 1903."),
    ("Sales rose by 4 percent in Europe.", "Sales fell by 2 percent in Asia."),
    ("The museum is closed on Mondays.", "The museum is open on Sundays."),
    ("Postgres is a relational database.", "Postgres does not need a schema for JSON columns."),
    ("The free plan allows 5 projects.", "The paid plan allows 50 projects."),
    ("Adults pay 12 euros.", "Children pay 5 euros."),
    ("The drug is taken twice a day.", "The drug is taken for seven days."),
    ("About two thirds of voters agreed.", "Roughly 66 percent of voters agreed."),
    ("The population was 300,000 in 1990.", "The population was 318,400 in 2020."),
    ("asyncio runs tasks in one thread.", "threading runs tasks in many threads."),
    ("The parser runs before the linker.", "The linker runs after the parser."),
    ("Nobody was killed in the fire.", "Three people were injured in the fire."),
    ("The M1 chip has 8 cores.", "The M2 chip has 10 cores."),
    ("`read_timeout` is 30 seconds.", "`write_timeout` is 60 seconds."),
    ("The minimum is 2 workers.", "The maximum is 16 workers."),
    ("The server starts without a config file.", "The server does not need a config file."),
    ("SQLite allows one writer at a time.", "SQLite allows many readers at a time."),
    ("Encrypted backups take 20 minutes.", "Plain backups take 12 minutes."),
    ("The first release had 12 commands.", "The second release had 30 commands."),
]


def _found(pair: tuple[str, str]) -> bool:
    one, other = ((Finding(text=text),) for text in pair)
    return bool(contradictions({"a": one, "b": other}))


def test_contradictions_are_found_and_parallel_statements_are_not() -> None:
    missed = [pair for pair in CONFLICTS if not _found(pair)]
    wrong = [pair for pair in COMPATIBLE if _found(pair)]
    found = len(CONFLICTS) - len(missed)
    print(f"\nmissed {missed}\nfound wrongly {wrong}")
    assert found >= 0.9 * len(CONFLICTS)
    assert found >= 0.97 * (found + len(wrong))


@pytest.mark.parametrize("pair", [*CONFLICTS[:6], *COMPATIBLE[:6]])
def test_the_order_of_two_workers_makes_no_difference(pair: tuple[str, str]) -> None:
    assert _found(pair) == _found((pair[1], pair[0]))
