"""Nothing that the function says, in its log or to Lambda, gives a secret away or breaks the log's format.

This file comes last by its name, so that it reads what was said in all the others.
"""

import json

from local.rig.faults import Result
from local.rig import Credentials

from .conftest import Said


def test_no_secret_is_in_the_log_or_in_an_error_report(results: dict[str, Result], said: Said) -> None:
    assert len(said) >= len(results) > 0
    leaks = [
        line
        for credentials, log, reports in said
        for line in (*(line for _, line in log), *reports)
        if credentials.found_in(line)
    ]
    assert leaks == [], f"{len(leaks)} places, such as: {leaks[0]}"


def test_no_secret_is_in_an_alert(results: dict[str, Result]) -> None:
    for result in results.values():
        for message in result.messages:
            assert not result.credentials.found_in(message.body + message.subject + str(message.attributes))


def test_the_secrets_that_are_searched_for_were_in_use(results: dict[str, Result]) -> None:
    asked = [result for result in results.values() if result.tries]
    assert asked
    for result in asked:
        assert result.tokens == {result.credentials.token}


def test_a_secret_in_a_line_is_found() -> None:
    credentials = Credentials()
    assert credentials.found_in(f'{{"cause": "x-amz-security-token:{credentials.token[:40]}…"}}')
    assert credentials.found_in(f"key {credentials.secret}")
    assert not credentials.found_in(f"a request signed by {credentials.key_id}, rig-token- and rig-secret-")


def test_every_line_of_the_log_is_one_json_object(said: Said) -> None:
    lines = [(stream, line) for _, log, _ in said for stream, line in log]
    assert lines
    for stream, line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            raise AssertionError(f"on {stream}: {line}") from None
        assert {"timestamp", "level"} <= entry.keys() or "_aws" in entry, line
