import os
from pathlib import Path

import pytest

from gan_color.data.paths import Paths, spread

NAMES = [Path("a.jpg"), Path("/deep/er/b.png"), Path(os.fsdecode(b"\xff\n.jpg")), Path("ä ö.webp")]


def test_it_is_a_sequence_of_the_paths():
    paths = Paths(map(str, NAMES))
    assert list(paths) == NAMES == paths
    assert [paths[i] for i in range(-4, 4)] == NAMES * 2
    assert paths[1:] == NAMES[1:] and paths[::-2] == NAMES[::-2]
    assert paths + NAMES == NAMES * 2 == Paths(paths) + paths
    assert list(paths.files()) == [os.fsencode(path) for path in NAMES]
    assert NAMES[2] in paths and Path("c.jpg") not in paths
    assert paths != NAMES[:3] and paths != [*NAMES[:3], Path("other")]
    assert not Paths([]) and Paths([]) == []


@pytest.mark.parametrize("number", [4, -5])
def test_a_number_past_the_end_is_an_index_error(number):
    with pytest.raises(IndexError):
        Paths(NAMES)[number]


def test_a_hundred_thousand_paths_take_as_much_memory_as_their_names():
    paths = Paths(f"/photographs/{i:06}.jpg" for i in range(100_000))
    assert len(paths._bytes) + paths._ends.nbytes == 100_000 * (len("/photographs/000000.jpg") + 8) + 8


@pytest.mark.parametrize("items", [list(range(10)), range(10), "abcdefghij"])
def test_some_are_spread_evenly_over_all(items):
    assert [*spread(items, 4)] == [items[i] for i in (0, 2, 5, 7)]
    assert [*spread(items, 1)] == [items[0]]
    assert all(spread(items, count) is items for count in (None, 10, 11))


def test_a_list_of_paths_is_spread_as_any_other():
    assert spread(Paths(NAMES), 2) == [NAMES[0], NAMES[2]]
