"""What a photograph's file holds besides its picture: transparency, EXIF, and how they are written again."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from gan_color.data import encode, photos
from gan_color.data.photos import as_photo, read_photo
from gan_color.errors import PhotoError, UsageError

WRITTEN = (".jpg", ".png", ".webp", ".tif", ".bmp")
HOLD_ALPHA = (".png", ".webp", ".tif")
HOLD_EXIF = (".jpg", ".png", ".webp", ".tif")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int32)


def full_exif(orientation: int = 6) -> Image.Exif:
    """What a phone writes: who, when, how, where, and sizes of the stored picture."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Artist] = "Grandmother"
    exif[ExifTags.Base.Model] = "Box camera"
    exif.get_ifd(ExifTags.IFD.Exif).update({0x9003: "1931:05:02 10:00:00", 0xA002: 40, 0xA003: 30, 0xA001: 65535})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return exif


def reopened(picture: Image.Image, path, exif=None):
    data, notes = encode.encode(picture, path, exif)
    image = Image.open(io.BytesIO(data))
    image.load()
    return image, notes


# Transparency


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_alpha_is_that_of_the_image_in_any_mode(mode):
    image = draw_photo(1).convert("RGBA")
    alpha = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80), dtype=np.uint8))
    image.putalpha(alpha)
    if mode in ("LA", "PA"):
        image = image.convert("LA" if mode == "LA" else "RGBA")
    elif mode == "La":
        image = image.convert("LA").convert("La")
    elif mode == "RGBa":
        image = image.convert("RGBa")
    photo = as_photo(image)
    np.testing.assert_array_equal(pixels(photo.alpha), pixels(alpha))


def test_colours_under_transparent_parts_are_the_files_and_white_to_the_eye(tmp_path):
    image = draw_photo(2).convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.save(tmp_path / "photo.png")
    photo = read_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(pixels(photo.rgb), pixels(draw_photo(2)))
    assert (pixels(photo.on_white()) == 255).all()


def test_a_photograph_without_transparency_has_no_alpha(tmp_path):
    draw_photo(1).save(tmp_path / "photo.jpg")
    assert read_photo(tmp_path / "photo.jpg").alpha is None


def test_alpha_turns_with_the_picture(tmp_path):
    image = draw_photo(2, 40, 30).convert("RGBA")
    alpha = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8))
    image.putalpha(alpha)
    image.save(tmp_path / "photo.png", exif=full_exif(6).tobytes())
    photo = read_photo(tmp_path / "photo.png")
    assert photo.alpha.size == photo.rgb.size == (30, 40)
    np.testing.assert_array_equal(pixels(photo.alpha), np.rot90(pixels(alpha), -1))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(HOLD_ALPHA), st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
def test_alpha_and_the_colours_under_it_survive_writing(tmp_path_factory, suffix, width, height, seed):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    values[::2, ::2, 3] = 0
    image, notes = reopened(Image.fromarray(values), tmp_path_factory.mktemp("alpha") / f"photo{suffix}")
    np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), values)
    assert notes == ()


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_a_format_without_transparency_gets_white_and_says_so(tmp_path, suffix):
    image = Image.new("RGBA", (16, 16), (200, 30, 30, 0))
    written, notes = reopened(image, tmp_path / f"photo{suffix}")
    assert np.abs(pixels(written) - 255).max() <= 1
    assert any("no transparency" in note for note in notes)


# EXIF


@pytest.mark.parametrize("place", HOLD_EXIF)
@pytest.mark.parametrize("suffix", HOLD_EXIF)
def test_exif_is_kept_with_the_orientation_applied_and_reset(tmp_path, place, suffix):
    draw_photo(3, 40, 30).save(tmp_path / f"photo{place}", exif=full_exif(6).tobytes())
    photo = read_photo(tmp_path / f"photo{place}")
    assert photo.rgb.size == (30, 40)
    written, notes = reopened(photo.rgb, tmp_path / f"again{suffix}", photo.exif)
    exif = written.getexif()
    details, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    assert written.size == (30, 40) and notes == ()
    assert exif.get(ExifTags.Base.Orientation, 1) == 1
    assert exif[ExifTags.Base.Artist] == "Grandmother" and exif[ExifTags.Base.Model] == "Box camera"
    assert details[0x9003] == "1931:05:02 10:00:00"
    assert details[0xA001] == 1 and 0xA002 not in details and 0xA003 not in details
    assert place[1] == "N"


@pytest.mark.parametrize("suffix", HOLD_EXIF)
def test_where_it_was_taken_is_dropped_on_request_and_the_rest_kept(tmp_path, suffix):
    draw_photo(3, 40, 30).save(tmp_path / "photo.jpg", exif=full_exif().tobytes())
    photo = read_photo(tmp_path / "photo.jpg", keep_gps=False)
    written, _ = reopened(photo.rgb, tmp_path / f"again{suffix}", photo.exif)
    exif = written.getexif()
    assert ExifTags.IFD.GPSInfo not in exif and not exif.get_ifd(ExifTags.IFD.GPSInfo)
    assert struct.pack("<II", 52, 1) not in photo.exif and struct.pack(">II", 52, 1) not in photo.exif
    assert exif[ExifTags.Base.Artist] == "Grandmother"


@pytest.mark.parametrize("place", [".jpg", ".png", ".tif", ".bmp"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_dots_per_inch_are_kept(tmp_path, place, suffix):
    draw_photo(3, 40, 30).save(tmp_path / f"scan{place}", dpi=(600, 300))
    photo = read_photo(tmp_path / f"scan{place}")
    written = Image.open(io.BytesIO(encode.encode(photo.rgb, tmp_path / f"again{suffix}", photo.exif, photo.dpi)[0]))
    assert [round(value) for value in written.info["dpi"]] == [600, 300]


def test_dots_per_inch_turn_with_the_picture(tmp_path):
    draw_photo(3, 40, 30).save(tmp_path / "scan.jpg", dpi=(600, 300), exif=full_exif(6).tobytes())
    assert read_photo(tmp_path / "scan.jpg").dpi == (300, 600)


@pytest.mark.parametrize("dpi", [None, (0, 0), (float("nan"), 72), (1e9, 1e9), ("x", 1), 72])
def test_dots_per_inch_that_are_none_or_nonsense_are_left_out(dpi):
    image = draw_photo(3)
    if dpi is not None:
        image.info["dpi"] = dpi
    assert as_photo(image).dpi is None


def test_the_image_that_was_given_keeps_its_exif(tmp_path):
    draw_photo(3, 40, 30).save(tmp_path / "photo.jpg", exif=full_exif().tobytes())
    with Image.open(tmp_path / "photo.jpg") as image:
        as_photo(image, keep_gps=False)
        assert image.getexif()[ExifTags.Base.Orientation] == 6
        assert ExifTags.IFD.GPSInfo in image.getexif()


def test_tags_that_describe_a_tiff_do_not_go_into_another_file(tmp_path):
    draw_photo(3).save(tmp_path / "photo.tif", exif=full_exif(1).tobytes())
    exif = Image.Exif()
    exif.load(read_photo(tmp_path / "photo.tif").exif)
    assert set(exif) <= {274, 315, 272, 34665, 34853, 282, 283, 296}


@pytest.mark.parametrize("block", [b"Exif\0\0nonsense that is longer than nothing", b"Exif\0\0II*\0" + b"\xff" * 40])
def test_broken_exif_is_left_out_and_said(tmp_path, block):
    draw_photo(3).save(tmp_path / "photo.png", exif=block)
    photo = read_photo(tmp_path / "photo.png")
    assert photo.exif is None
    assert photo.notes == ("its EXIF is broken and left out",)


def test_empty_exif_is_none_and_not_a_fault(tmp_path):
    draw_photo(3).save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    photo = read_photo(tmp_path / "photo.jpg")
    assert photo.exif is None and photo.notes == ()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif"])
def test_half_a_file_is_refused_and_not_read_for_its_exif(tmp_path, suffix):
    draw_photo(3).save(tmp_path / f"photo{suffix}")
    whole = (tmp_path / f"photo{suffix}").read_bytes()
    (tmp_path / f"photo{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(PhotoError, match="broken"):
        read_photo(tmp_path / f"photo{suffix}")


def test_exif_that_a_format_cannot_hold_is_said(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    written, notes = reopened(draw_photo(3), tmp_path / "photo.jpg", exif.tobytes())
    assert not written.getexif() and "JPEG cannot hold its EXIF: left out" in notes
    assert encode.encode(draw_photo(3), tmp_path / "photo.bmp", full_exif().tobytes())[1]


# Notes on what was not taken over


def test_animations_are_said(tmp_path):
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "film.webp", save_all=True, append_images=frames[1:])
    assert "only its first frame is read" in read_photo(tmp_path / "film.webp").notes
    frames[0].save(tmp_path / "still.webp")
    assert read_photo(tmp_path / "still.webp").notes == ()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_depth_that_is_lost_is_said(tmp_path, suffix):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(deep).save(tmp_path / f"deep{suffix}")
    photo = read_photo(tmp_path / f"deep{suffix}")
    assert photo.notes == ("its 16 bits a channel are read as 8",)
    assert np.abs(pixels(photo.rgb) - deep[..., None] / 257).max() <= 0.51


def test_a_profile_that_cannot_be_used_is_said(tmp_path):
    draw_photo(4).save(tmp_path / "photo.png", icc_profile=b"nonsense")
    assert "its colour profile cannot be used: taken for sRGB" in read_photo(tmp_path / "photo.png").notes


# Writing


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp"])
def test_pixels_survive_writing(tmp_path, suffix):
    written, _ = reopened(draw_photo(5), tmp_path / f"photo{suffix}")
    np.testing.assert_array_equal(pixels(written.convert("RGB")), pixels(draw_photo(5)))


def test_jpeg_keeps_fine_colour(tmp_path):
    """Columns of red and green a pixel wide: with halved chroma they would turn brown."""
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 1] = 160
    written, _ = reopened(Image.fromarray(stripes), tmp_path / "photo.jpg")
    assert np.abs(pixels(written) - stripes).mean() < 6


@pytest.mark.parametrize("suffix", HOLD_EXIF)
def test_outputs_are_tagged_srgb(tmp_path, suffix):
    written, _ = reopened(draw_photo(5), tmp_path / f"photo{suffix}")
    profile = ImageCms.ImageCmsProfile(io.BytesIO(written.info["icc_profile"]))
    assert "srgb" in ImageCms.getProfileDescription(profile).lower()
    again = ImageCms.profileToProfile(draw_photo(5), profile, ImageCms.createProfile("sRGB"))
    assert np.abs(pixels(again) - pixels(draw_photo(5))).max() <= 1


@pytest.mark.parametrize("suffix", WRITTEN)
def test_one_picture_is_one_file(tmp_path, suffix, monkeypatch):
    first = encode.encode(draw_photo(5), tmp_path / f"photo{suffix}")[0]
    encode._srgb_profile.cache_clear()
    real = ImageCms.ImageCmsProfile.tobytes

    def made_later(profile):
        data = bytearray(real(profile))
        data[24:36] = b"\x01" * 12
        return bytes(data)

    monkeypatch.setattr(ImageCms.ImageCmsProfile, "tobytes", made_later)
    assert encode.encode(draw_photo(5), tmp_path / f"photo{suffix}")[0] == first


@pytest.mark.parametrize(("suffix", "side"), [(".jpg", 65_501), (".webp", 16_384)])
def test_a_picture_too_long_for_a_format_is_refused_by_name(tmp_path, suffix, side):
    with pytest.raises(PhotoError) as caught:
        encode.encode(Image.new("RGB", (side, 1)), tmp_path / f"photo{suffix}")
    assert str(caught.value).startswith(f"{tmp_path}/photo{suffix}: cannot be written as ")


@pytest.mark.parametrize("name", ["photo.gif", "photo", "photo.avif", "photo.mpo"])
def test_a_suffix_that_is_not_written_is_refused_and_named_anew(tmp_path, name):
    with pytest.raises(UsageError, match="end it in"):
        encode.format_of(tmp_path / name)
    assert encode.writable_name(name) == f"{name}.png"


def test_every_photograph_suffix_is_written_or_named_anew():
    for suffix in photos.SUFFIXES:
        assert encode.encode(Image.new("RGB", (2, 2)), Path(encode.writable_name(f"a{suffix}")))[0]
