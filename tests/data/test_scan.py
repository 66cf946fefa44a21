import hashlib
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_photo
from PIL import Image
from skimage.color import rgb2lab

from gan_color.data.look import Look
from gan_color.data.photos import find_photos
from gan_color.data.scan import scan


def look(path: Path) -> Look:
    (only,) = scan([path], show_progress=False)
    return only


def true_chroma(image: Image.Image) -> float:
    lab = rgb2lab(np.asarray(image.convert("RGB")))
    return float(np.hypot(lab[..., 1], lab[..., 2]).mean())


def test_the_digest_is_the_sha256_of_the_file(photo_folder):
    looks = scan(find_photos(photo_folder), show_progress=False)
    assert [seen.digest for seen in looks] == [hashlib.sha256(seen.path.read_bytes()).hexdigest() for seen in looks]
    assert len({seen.digest for seen in looks}) == 12


def test_the_same_pixels_in_another_file_have_another_digest_and_the_same_chroma(tmp_path):
    draw_photo(0).save(tmp_path / "a.png")
    draw_photo(0).save(tmp_path / "b.bmp")
    one, other = scan([tmp_path / "a.png", tmp_path / "b.bmp"], show_progress=False)
    assert one.digest != other.digest
    assert one.chroma == other.chroma


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGB"])
def test_a_grey_photograph_has_no_chroma(tmp_path, mode):
    draw_photo(1).convert("L").convert(mode).save(tmp_path / "grey.png")
    seen = look(tmp_path / "grey.png")
    assert seen.error is None
    assert 0 <= seen.chroma < 0.05


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 190, 180), (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("size", [(90, 70), (1, 1), (3000, 2), (1, 500)])
def test_the_chroma_of_one_colour_is_exact_at_any_size(tmp_path, colour, size):
    flat = Image.new("RGB", size, colour)
    flat.save(tmp_path / "flat.png")
    assert look(tmp_path / "flat.png").chroma == pytest.approx(true_chroma(flat), abs=0.02)


@pytest.mark.parametrize("size", [(80, 64), (640, 480), (333, 1000)])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_chroma_is_close_to_that_of_the_whole_photograph(tmp_path, size, suffix):
    photo = draw_photo(2, 80, 64).resize(size)
    photo.save(tmp_path / f"photo{suffix}")
    expected = true_chroma(Image.open(tmp_path / f"photo{suffix}"))
    assert expected > 20
    assert look(tmp_path / f"photo{suffix}").chroma == pytest.approx(expected, rel=0.05)


def test_chroma_of_real_photographs_is_close_to_that_of_the_whole(shared):
    paths = find_photos(shared / "data" / "scenes" / "val")[::20]
    for seen in scan(paths, show_progress=False):
        expected = true_chroma(Image.open(seen.path))
        assert seen.chroma == pytest.approx(expected, rel=0.15, abs=0.5), seen.path.name


def test_files_that_cannot_be_read_carry_their_error_and_do_not_stop_the_scan(tmp_path, photo_folder):
    good = find_photos(photo_folder)[:2]
    (tmp_path / "text.jpg").write_text("no photograph")
    (tmp_path / "cut.jpg").write_bytes(good[0].read_bytes()[:300])
    bad = [tmp_path / "text.jpg", tmp_path / "missing.jpg", tmp_path, tmp_path / "cut.jpg"]
    looks = scan([good[0], *bad, good[1]], show_progress=False)
    assert [seen.error is None for seen in looks] == [True, False, False, False, False, True]
    for path, seen in zip(bad, looks[1:5], strict=True):
        assert seen.path == path
        assert seen.error.startswith(f"{path}: ")
        assert seen.chroma is None


def test_a_file_that_does_not_decode_still_has_its_digest_and_a_missing_one_none(tmp_path):
    (tmp_path / "text.jpg").write_text("no photograph")
    assert look(tmp_path / "text.jpg").digest == hashlib.sha256(b"no photograph").hexdigest()
    assert look(tmp_path / "missing.jpg").digest is None


def test_the_order_is_kept_though_some_take_longer(tmp_path):
    paths = []
    for seed in range(40):
        paths.append(tmp_path / f"{seed * 7919 % 40:02}.png")
        width = 1200 if seed % 10 == 0 else 20
        draw_photo(seed, width, width).save(paths[-1])
    assert [seen.path for seen in scan(paths, show_progress=False)] == paths


def test_nothing_to_look_at_gives_nothing():
    assert scan([], show_progress=False) == []


def test_no_bar_is_drawn_where_the_output_is_no_terminal(photo_folder, capsys):
    scan(find_photos(photo_folder))
    assert capsys.readouterr() == ("", "")
