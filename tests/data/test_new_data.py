"""What is new among the files of a night."""

from datetime import UTC, datetime

from two_tower.data import new_data_in_words, new_data_since

NIGHT = datetime(2026, 11, 26, 3, tzinfo=UTC)


def file(name: str, generation: str = "1", size: int = 10) -> dict:
    return {"path": f"gs://b/{name}", "name": name, "generation": generation, "bytes": size}


def test_new_changed_and_gone_files_are_counted():
    earlier = [file("a"), file("b"), file("c")]
    today = [file("a"), file("b", "2"), file("d", size=7), file("e", size=5)]
    found = new_data_since(earlier, {"interactions": today}, moment=NIGHT, seen_until=5)
    assert (found["new"], found["changed"], found["gone"], found["new_bytes"]) == (2, 1, 1, 12)
    assert found["new_names"] == ["d", "e"] and found["seen_until"] == 5
    assert found["run_time"] == "2026-11-26T03:00:00+00:00"
    assert new_data_in_words(found) == "2 of 4 files are new since the champion, 1 changed, 1 gone"


def test_without_a_champion_that_says_so_nothing_is_called_new():
    found = new_data_since(None, {"interactions": [file("a")]}, moment=NIGHT)
    assert "new" not in found and found["files"] == 1
    assert "not known" in new_data_in_words(found)
