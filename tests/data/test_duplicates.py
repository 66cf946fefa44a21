import io

import numpy as np
import pytest
from conftest import draw_photo
from PIL import Image

from gan_color.data import duplicates
from gan_color.data.duplicates import alike, signature
from gan_color.data.photos import find_photos, read_rgb


def recompressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


COPIES = {
    "smaller and recompressed": lambda picture: recompressed(picture.resize((70, 50)), 60),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "darker": lambda picture: picture.point(lambda level: int(255 * (level / 255) ** 1.3)),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_others_are_not(copy):
    pictures = [draw_photo(seed, 160, 120) for seed in range(8)]
    pictures.insert(3, COPIES[copy](pictures[5]))
    assert alike([signature(picture) for picture in pictures]) == [(3, 6)]


def test_real_photographs_of_one_set_are_told_apart_and_their_copies_found(shared):
    paths = find_photos(shared / "data" / "scenes" / "val")[::4]
    originals = [read_rgb(path) for path in paths]
    copies = [recompressed(original.resize((original.width // 2, original.height // 2)), 50) for original in originals]
    pairs = alike([signature(picture) for picture in originals + copies])
    expected = {(i, i + len(paths)) for i in range(len(paths))}
    assert set(pairs) <= expected
    assert len(pairs) >= 0.97 * len(expected)


def test_all_pairs_are_compared_whatever_the_block(monkeypatch):
    chance = np.random.default_rng(0)
    pictures = [draw_photo(int(seed), 40, 32) for seed in chance.integers(0, 12, 60)]
    signatures = [signature(picture) for picture in pictures]
    pairs = alike(signatures)
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    assert alike(signatures) == pairs
    hashes = [one.hash for one in signatures]
    same = [(i, j) for i in range(60) for j in range(i + 1, 60) if hashes[i] == hashes[j]]
    assert pairs == same and len(same) > 60


def test_plain_pictures_are_like_no_other():
    plain = [Image.new("RGB", (64, 64), colour) for colour in ("black", "white", "red", "black")]
    assert alike([signature(picture) for picture in plain]) == []


def test_the_search_ends_where_everything_is_alike(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 100)
    one = signature(draw_photo(0))
    assert 100 <= len(alike([one] * 300)) <= 128 * 300
    assert alike([]) == []
