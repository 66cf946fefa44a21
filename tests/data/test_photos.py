import contextlib
import io
import json
import os
import pickle
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from conftest import draw_photo
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from gan_color.data import photos
from gan_color.data.photos import FORMATS, MAX_PIXELS, as_rgb, find_photos, read_rgb
from gan_color.errors import DataError, PhotoError, shown

# Orientation to what a camera stores for an upright picture (height, width, 3).
STORED_AS = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.int32)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_by_hand(width: int, height: int, bits: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG of raw rows, each led by its filter byte; what Pillow cannot write or should not decode."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + body + png_chunk(b"IEND", b"")


def exif_of(entries: list[tuple[int, int, int, bytes]]) -> bytes:
    """EXIF of raw (tag, type, count, four bytes) entries, which may be nonsense."""
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def refusal(path: Path, **options) -> str:
    with pytest.raises(PhotoError) as caught:
        read_rgb(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{shown(path)}: ")
    assert len(message.splitlines()) == 1
    return message


# find_photos


def make_empty(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def test_find_photos_searches_subfolders(tmp_path):
    made = make_empty(tmp_path, "a.jpg", "b/c.png", "b/d/e.webp")
    assert find_photos(tmp_path) == made


def test_find_photos_takes_every_suffix_in_any_case_and_no_other(tmp_path):
    wanted = make_empty(tmp_path, *(f"photo{suffix}" for suffix in photos.SUFFIXES), "LOUD.JPG", "Mixed.Tiff")
    make_empty(tmp_path, "notes.txt", "Thumbs.db", "jpg", "film.mp4", "drawing.eps", "photo.jpg.part")
    assert sorted(find_photos(tmp_path)) == sorted(wanted)


def test_find_photos_leaves_out_hidden_files_and_folders(tmp_path):
    make_empty(tmp_path, ".hidden.jpg", "._photo.jpg", ".cache/photo.jpg", "sub/._photo.jpg")
    seen = make_empty(tmp_path, "photo.jpg")
    assert find_photos(tmp_path) == seen


def test_find_photos_looks_into_a_hidden_folder_that_was_asked_for(tmp_path):
    made = make_empty(tmp_path / ".photos", "photo.jpg")
    assert find_photos(tmp_path / ".photos") == made


@pytest.mark.parametrize("seed", range(5))
def test_find_photos_sorts_by_bytes_whatever_order_the_folder_is_read_in(tmp_path, monkeypatch, seed):
    plain = ["b.jpg", "a.jpg", "B.jpg", "a-1.jpg", "a/z.jpg", "10.jpg", "9.jpg", "Z/a.jpg", "\N{CAMERA}.jpg"]
    names = [*plain, "\N{LATIN SMALL LETTER E WITH ACUTE}.jpg", "e\N{COMBINING ACUTE ACCENT}.jpg"]
    make_empty(tmp_path, *names)
    with contextlib.suppress(OSError):  # where names need not be text
        names += [path.name for path in make_empty(tmp_path, os.fsdecode(b"\xff.jpg"))]
    chance = np.random.default_rng(seed)
    in_order = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: list(chance.permutation(list(in_order(folder)))))
    found = [str(path.relative_to(tmp_path)) for path in find_photos(tmp_path)]
    assert found == sorted(names, key=os.fsencode)


def test_find_photos_walks_a_loop_of_links_once(tmp_path):
    made = make_empty(tmp_path, "sub/photo.jpg")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "self").symlink_to("self")
    assert find_photos(tmp_path) == made


def test_find_photos_follows_links_out_of_the_folder(tmp_path):
    make_empty(tmp_path / "elsewhere", "sub/a.jpg", "b.jpg")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "sub").symlink_to(tmp_path / "elsewhere" / "sub")
    (tmp_path / "here" / "link.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    assert find_photos(tmp_path / "here") == [tmp_path / "here" / "link.jpg", tmp_path / "here" / "sub" / "a.jpg"]


def test_find_photos_names_a_folder_reached_twice_the_same_whatever_order_it_is_read_in(tmp_path, monkeypatch):
    make_empty(tmp_path, "folder/photo.jpg")
    (tmp_path / "alias").symlink_to("folder")
    in_order = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: sorted(in_order(folder), key=lambda entry: entry.name))
    forwards = find_photos(tmp_path)
    monkeypatch.setattr(os, "scandir", lambda folder: sorted(in_order(folder), key=lambda entry: entry.name)[::-1])
    assert find_photos(tmp_path) == forwards


def test_a_link_that_leads_nowhere_is_listed_to_be_named(tmp_path):
    made = make_empty(tmp_path, "photo.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "no such file.jpg")
    (tmp_path / "gone").symlink_to(tmp_path / "no such folder")
    assert find_photos(tmp_path) == sorted([*made, tmp_path / "gone.jpg"])
    assert "No such file" in refusal(tmp_path / "gone.jpg")


@pytest.mark.timeout(30)  # opening a pipe waits for ever
def test_a_pipe_is_listed_to_be_named_and_never_opened(tmp_path):
    made = make_empty(tmp_path, "photo.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    assert find_photos(tmp_path) == sorted([*made, tmp_path / "pipe.jpg"])
    assert "not a regular file" in refusal(tmp_path / "pipe.jpg")
    assert "not a regular file" in refusal(tmp_path / "folder.jpg")


@pytest.mark.parametrize(
    "name",
    [
        b"new\nline.png",
        "emoji \N{CAMERA}.png".encode(),
        b"-rf.png",
        b"bytes \xff\xfe.png",
        b"'quotes\".png",
        b" .png",
        b"x" * 251 + b".png",
    ],
)
def test_odd_names_are_found_and_read_and_named_in_one_line(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    try:
        path.write_bytes(b"")
    except OSError:
        pytest.skip("this file system has no such names")
    assert find_photos(tmp_path) == [path]
    refusal(path)
    draw_photo(0).save(path)
    assert read_rgb(path).size == (80, 64)


def test_find_photos_of_an_empty_folder_says_what_to_give(tmp_path):
    make_empty(tmp_path, "notes.txt")
    with pytest.raises(DataError, match=r"holds no photographs: give a folder with .*\.jpg") as caught:
        find_photos(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


def test_find_photos_of_a_missing_folder_names_it(tmp_path):
    with pytest.raises(DataError, match="No such file or directory") as caught:
        find_photos(tmp_path / "missing")
    assert str(caught.value).startswith(str(tmp_path / "missing"))


def test_a_subfolder_that_cannot_be_listed_is_told_apart_and_refused_to_train_on(tmp_path, unlisted_folder):
    files, unlisted = photos.walk(tmp_path)
    assert files == [tmp_path / "top.png"]
    assert list(unlisted) == [unlisted_folder] and "File name too long" in str(unlisted[unlisted_folder])
    with pytest.raises(DataError, match="cannot be listed"):
        find_photos(tmp_path)


def test_find_photos_of_a_file_names_it(tmp_path):
    (path,) = make_empty(tmp_path, "photo.jpg")
    with pytest.raises(DataError, match="Not a directory") as caught:
        find_photos(path)
    assert str(caught.value).startswith(str(path))


# read_rgb: modes


def over_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return values * share + 255 * (1 - share)


def with_alpha(mode: str) -> Image.Image:
    image = draw_photo(1).convert(mode)
    ramp = np.tile(np.linspace(0, 255, image.width).astype(np.uint8), (image.height, 1))
    image.putalpha(Image.fromarray(ramp))
    return image


def test_read_rgb_gives_a_colour_photograph_as_it_is(tmp_path):
    draw_photo(1).save(tmp_path / "photo.png")
    read = read_rgb(tmp_path / "photo.png")
    assert read.mode == "RGB"
    np.testing.assert_array_equal(pixels(read), pixels(draw_photo(1)))


@pytest.mark.parametrize(("mode", "white"), [("1", 1), ("L", 255)])
def test_read_rgb_gives_grey_three_times(tmp_path, mode, white):
    grey = draw_photo(1).convert(mode)
    grey.save(tmp_path / "photo.png")
    assert Image.open(tmp_path / "photo.png").mode == mode
    read = pixels(read_rgb(tmp_path / "photo.png"))
    np.testing.assert_array_equal(read, np.repeat(pixels(grey)[..., None] * 255 // white, 3, axis=2))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_read_rgb_lays_transparent_parts_on_white(tmp_path, mode):
    image = with_alpha(mode)
    image.save(tmp_path / "photo.png")
    expected = over_white(pixels(draw_photo(1).convert(mode).convert("RGB")), pixels(image.getchannel("A")))
    read = pixels(read_rgb(tmp_path / "photo.png"))
    assert np.abs(read - expected).max() <= 1
    assert (read[:, 0] == 255).all()


def test_read_rgb_looks_colours_up_in_the_palette(tmp_path):
    image = draw_photo(1).quantize(64)
    image.save(tmp_path / "photo.png")
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    np.testing.assert_array_equal(pixels(read_rgb(tmp_path / "photo.png")), palette[pixels(image)])


def test_read_rgb_lays_a_transparent_palette_entry_on_white(tmp_path):
    image = draw_photo(1).quantize(16)
    image.save(tmp_path / "photo.png", transparency=5)
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
    palette[5] = 255
    assert (pixels(image) == 5).any()
    np.testing.assert_array_equal(pixels(read_rgb(tmp_path / "photo.png")), palette[pixels(image)])


def test_read_rgb_lays_half_transparent_palette_entries_on_white(tmp_path):
    image = draw_photo(1).quantize(16)
    alpha = np.arange(16) * 17
    image.save(tmp_path / "photo.png", transparency=bytes(alpha.tolist()))
    palette = np.array(image.getpalette("RGB")).reshape(-1, 3)[:16]
    expected = over_white(palette[pixels(image)], alpha[pixels(image)])
    assert np.abs(pixels(read_rgb(tmp_path / "photo.png")) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_read_rgb_lays_a_transparent_colour_on_white(tmp_path, mode):
    image = Image.new(mode, (8, 8), "black")
    image.paste("grey", (0, 0, 4, 8))
    image.save(tmp_path / "photo.png", transparency=0 if mode == "L" else (0, 0, 0))
    read = pixels(read_rgb(tmp_path / "photo.png"))
    assert (read[:, :4] == 128).all()
    assert (read[:, 4:] == 255).all()


def test_read_rgb_converts_cmyk(tmp_path):
    inks = Image.merge("CMYK", [*draw_photo(1).split(), draw_photo(2).getchannel(0)])
    inks.save(tmp_path / "photo.tif")
    cmyk = pixels(inks)
    expected = (255 - cmyk[..., :3]) * (255 - cmyk[..., 3:]) / 255
    assert np.abs(pixels(read_rgb(tmp_path / "photo.tif")) - expected).max() <= 2


def test_read_rgb_does_not_invert_a_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    assert np.abs(pixels(read_rgb(tmp_path / "red.jpg")) - (255, 0, 0)).max() <= 4


def test_read_rgb_converts_lab(tmp_path):
    lab = ImageCms.profileToProfile(
        draw_photo(1), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "photo.tif")
    assert Image.open(tmp_path / "photo.tif").mode == "LAB"
    assert np.abs(pixels(read_rgb(tmp_path / "photo.tif")) - pixels(draw_photo(1))).mean() < 2


# read_rgb: depth


def deep_ramp() -> np.ndarray:
    """All 65,536 values once."""
    return np.arange(65536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", ".png"), ("I;16", ".tif"), ("I;16B", ".tif")])
def test_read_rgb_keeps_the_scale_of_16_bit_grey(tmp_path, mode, suffix):
    kind = ">u2" if mode == "I;16B" else "<u2"
    Image.frombytes(mode, (256, 256), deep_ramp().astype(kind).tobytes()).save(tmp_path / f"deep{suffix}")
    assert Image.open(tmp_path / f"deep{suffix}").mode.startswith("I;16")
    read = pixels(read_rgb(tmp_path / f"deep{suffix}"))
    assert 127 <= read.mean() <= 128
    assert np.abs(read - deep_ramp()[..., None] / 257).max() <= 1


def test_as_rgb_keeps_the_scale_of_16_bit_grey_that_pillow_widened():
    wide = Image.fromarray(deep_ramp().astype(np.int32))
    assert wide.mode == "I"
    assert np.abs(pixels(as_rgb(wide)) - deep_ramp()[..., None] / 257).max() <= 1


def test_read_rgb_lays_transparent_16_bit_grey_on_white(tmp_path):
    values = np.full((8, 8), 32768, dtype=">u2")
    values[:, 4:] = 1000
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    transparent = png_chunk(b"tRNS", struct.pack(">H", 1000))
    (tmp_path / "deep.png").write_bytes(png_by_hand(8, 8, 16, 0, rows, transparent))
    read = pixels(read_rgb(tmp_path / "deep.png"))
    assert np.abs(read[:, :4] - 128).max() <= 1
    assert (read[:, 4:] == 255).all()


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)], ids=["RGB", "LA", "RGBA"])
def test_read_rgb_keeps_the_scale_of_16_bit_colour(tmp_path, colour_type, channels):
    values = np.stack([deep_ramp(), deep_ramp()[::-1], deep_ramp().T, deep_ramp()[:, ::-1]][:channels], axis=2)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "deep.png").write_bytes(png_by_hand(256, 256, 16, colour_type, rows))
    expected = values / 257
    if channels in (2, 4):
        expected = over_white(expected[..., :-1], expected[..., -1])
    read = pixels(read_rgb(tmp_path / "deep.png"))
    assert np.abs(read - expected).max() < 3
    assert abs(read.mean() - expected.mean()) <= 1


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_read_rgb_scales_float_grey_and_survives_nan(tmp_path, white):
    values = np.linspace(0, white, 256, dtype=np.float32)[None].repeat(8, axis=0)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "float.tif")
    read = pixels(read_rgb(tmp_path / "float.tif"))
    assert np.abs(read[1:] - np.arange(256)[:, None]).max() <= 1
    assert (read[0, 0] == 0).all()


@pytest.mark.parametrize("largest", [1000, 65_535, 65_536, 1 << 24])
@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_deep_grey_has_the_white_that_holds_its_largest_value(kind, largest):
    values = np.linspace(0, largest, 256).astype(kind)[None].repeat(2, axis=0)
    values[0, 0] = -7
    if kind is np.float32:
        values[0, 1] = np.inf
    read = pixels(as_rgb(Image.fromarray(values)))
    assert np.abs(read[1] - (values[1] / max(largest, 65_535) * 255)[:, None]).max() <= 0.51
    assert (read[0, 0] == 0).all() and (kind is np.int32 or (read[0, 1] == read[1, -1]).all())


# read_rgb: EXIF


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("value", range(1, 9))
def test_read_rgb_applies_each_orientation(tmp_path, value, suffix):
    path = tmp_path / f"photo{suffix}"
    upright = pixels(draw_photo(3, 64, 48))
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[value](upright)).astype(np.uint8))
    options = {".jpg": {"quality": 97, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    stored.save(path, exif=orientation(value), **options)
    read = pixels(read_rgb(path))
    assert read.shape == upright.shape
    assert np.abs(read - upright).mean() <= (2 if suffix == ".jpg" else 0)


def test_read_rgb_applies_the_orientation_to_a_photograph_decoded_small(tmp_path):
    stored = draw_photo(3, 640, 480).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "photo.jpg", exif=orientation(6), quality=95)
    read = read_rgb(tmp_path / "photo.jpg", min_side=120)
    assert read.size == (160, 120)
    expected = draw_photo(3, 640, 480).reduce(4)
    assert np.abs(pixels(read) - pixels(expected)).mean() < 3


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16"])
@pytest.mark.parametrize("place", ["before the pixels", "after the pixels", "as ImageMagick writes it"])
def test_read_rgb_finds_the_orientation_of_a_png_of_any_mode(tmp_path, mode, place):
    image = draw_photo(3, 40, 20)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "P":
        image = image.quantize(16)
    else:
        image = image.convert(mode)
    exif = orientation(6).tobytes()
    if place == "as ImageMagick writes it":
        text = PngImagePlugin.PngInfo()
        text.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
        image.save(tmp_path / "photo.png", pnginfo=text)
    else:
        image.save(tmp_path / "photo.png")
        plain = (tmp_path / "photo.png").read_bytes()
        chunk = png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
        cut = plain.rindex(b"IEND") - 4 if place == "after the pixels" else plain.index(b"IHDR") + 21
        (tmp_path / "photo.png").write_bytes(plain[:cut] + chunk + plain[cut:])
    assert read_rgb(tmp_path / "photo.png").size == (20, 40)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0", b"nonsense", exif_of([(0x0112, 2, 2, b"6\0\0\0")])]
)
def test_read_rgb_ignores_broken_exif(tmp_path, exif):
    draw_photo(3).save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(pixels(read_rgb(tmp_path / "photo.png")), pixels(draw_photo(3)))


def test_read_rgb_ignores_an_orientation_that_does_not_exist(tmp_path):
    draw_photo(3).save(tmp_path / "photo.png", exif=orientation(9))
    np.testing.assert_array_equal(pixels(read_rgb(tmp_path / "photo.png")), pixels(draw_photo(3)))


def test_read_rgb_applies_the_orientation_beside_a_broken_exif_entry(tmp_path):
    broken_width = (0x0100, 9, 1, b"\xff\xff\xff\xff")
    exif = exif_of([broken_width, (0x0112, 3, 1, b"\6\0\0\0")])
    draw_photo(3, 40, 20).save(tmp_path / "photo.jpg", exif=exif)
    assert read_rgb(tmp_path / "photo.jpg").size == (20, 40)


def test_read_rgb_shows_the_same_picture_from_two_orientations_of_a_camera(shared):
    nasty = shared / "data" / "nasty"
    one, other = (read_rgb(nasty / name).resize((60, 90)) for name in ("Portrait_6.jpg", "Portrait_8.jpg"))
    assert np.abs(pixels(one) - pixels(other)).mean() < 10


# read_rgb: animations, profiles


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_read_rgb_takes_the_first_frame(tmp_path, suffix):
    first, *others = (Image.new("RGB", (16, 12), colour) for colour in ("red", "blue", "lime"))
    options = {"lossless": True} if suffix == ".webp" else {}
    first.save(tmp_path / f"film{suffix}", save_all=True, append_images=others, **options)
    assert Image.open(tmp_path / f"film{suffix}").n_frames == 3
    read = read_rgb(tmp_path / f"film{suffix}")
    assert read.size == (16, 12)
    assert (pixels(read) == (255, 0, 0)).all()


def test_read_rgb_reads_the_photograph_of_a_phone_that_stores_two(shared):
    read = read_rgb(shared / "data" / "nasty" / "sugarshack.mpo", min_side=200)
    assert read.size == (320, 240)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def red_for_blue_profile() -> bytes:
    """The sRGB profile under another name, its red and blue primaries swapped."""
    swapped = srgb_profile().replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    return swapped.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


@pytest.mark.parametrize(
    "profile",
    [srgb_profile(), b"nonsense", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()],
    ids=["sRGB", "broken", "of another colour space"],
)
def test_read_rgb_leaves_the_pixels_under_a_profile_that_changes_nothing(tmp_path, profile):
    draw_photo(4).save(tmp_path / "photo.png", icc_profile=profile)
    np.testing.assert_array_equal(pixels(read_rgb(tmp_path / "photo.png")), pixels(draw_photo(4)))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_read_rgb_converts_an_embedded_profile(tmp_path, suffix):
    options = {"quality": 97, "subsampling": 0} if suffix == ".jpg" else {}
    options |= {"lossless": True} if suffix == ".webp" else {}
    draw_photo(4).save(tmp_path / f"photo{suffix}", icc_profile=red_for_blue_profile(), **options)
    read = pixels(read_rgb(tmp_path / f"photo{suffix}"))
    assert np.abs(read - pixels(draw_photo(4))[..., ::-1]).mean() < 2


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_read_rgb_converts_an_embedded_profile_of_other_modes(tmp_path, mode):
    image = draw_photo(4).convert("RGBA") if mode == "RGBA" else draw_photo(4).quantize(32)
    image.save(tmp_path / "photo.png", icc_profile=red_for_blue_profile())
    read = pixels(read_rgb(tmp_path / "photo.png"))
    assert np.abs(read - pixels(image.convert("RGB"))[..., ::-1]).mean() < 2


def test_read_rgb_applies_the_orientation_beside_a_profile(tmp_path):
    stored = draw_photo(4, 40, 20)
    stored.save(tmp_path / "photo.png", icc_profile=red_for_blue_profile(), exif=orientation(8))
    read = pixels(read_rgb(tmp_path / "photo.png"))
    expected = pixels(stored.transpose(Image.Transpose.ROTATE_90))[..., ::-1]
    assert read.shape == expected.shape
    assert np.abs(read - expected).mean() < 2


def test_as_rgb_is_what_read_rgb_applies(tmp_path):
    with_alpha("RGB").save(tmp_path / "photo.png", exif=orientation(5))
    with Image.open(tmp_path / "photo.png") as image:
        np.testing.assert_array_equal(pixels(as_rgb(image)), pixels(read_rgb(tmp_path / "photo.png")))


# read_rgb: what is refused


@pytest.mark.parametrize("kind", FORMATS)
def test_the_content_decides_and_not_the_suffix(tmp_path, kind):
    for name in ("photo.jpg", "photo.png", "photo"):
        draw_photo(5).save(tmp_path / name, format=kind)
        assert read_rgb(tmp_path / name).size == (80, 64)


def broken_files(folder: Path) -> list[Path]:
    """Files under a photograph's name that are none, or only a part of one."""
    contents = {"empty": b"", "text": b"not a photograph\n" * 40, "html": b"<!DOCTYPE html><title>404</title>"}
    for kind in ("EPS", "PPM", "PDF", "PCX", "TGA"):
        whole = io.BytesIO()
        draw_photo(6).save(whole, format=kind)
        contents[kind] = whole.getvalue()
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = io.BytesIO()
        draw_photo(6).save(whole, format=kind)
        contents[f"cut {kind}"] = whole.getvalue()[: len(whole.getvalue()) // 2]
    contents["only a JPEG header"] = b"\xff\xd8\xff\xe0\x00\x10JFIF"
    contents["zeros"] = bytes(5000)
    paths = []
    for name, content in contents.items():
        paths.append(folder / f"{name}.jpg")
        paths[-1].write_bytes(content)
    return [*paths, folder / "missing.jpg", folder]


def test_files_that_are_no_photographs_are_refused_in_one_line_that_begins_with_the_path(tmp_path):
    messages = {path.stem: refusal(path) for path in broken_files(tmp_path)}
    assert "not a photograph in a format of JPEG, PNG" in messages["EPS"]
    assert "not a photograph" in messages["PPM"]
    assert "not a photograph" in messages["text"]
    assert "not a photograph" in messages["empty"]
    assert "truncated" in messages["cut JPEG"]
    assert "No such file or directory" in messages["missing"]


@pytest.mark.parametrize(
    ("brand", "others", "name"),
    [
        (b"heic", b"mif1heic", "HEIC"),
        (b"mif1", b"heic", "HEIC"),
        (b"mif1", b"avifmiaf", "AVIF"),
        (b"msf1", b"", "HEIC"),
    ],
)
def test_what_phones_write_and_is_not_read_is_refused_with_the_cure(tmp_path, brand, others, name):
    box = b"ftyp" + brand + bytes(4) + others
    (tmp_path / "photo.jpg").write_bytes(struct.pack(">I", len(box) + 4) + box + bytes(999))
    assert refusal(tmp_path / "photo.jpg").endswith(f": {name} is not read: convert it to JPEG or PNG first")


def test_a_film_is_no_photograph_to_convert(tmp_path):
    (tmp_path / "film.jpg").write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + b"heic avif" * 99)
    assert "not a photograph in a format of" in refusal(tmp_path / "film.jpg")


def test_a_real_avif_is_refused_with_the_cure(shared):
    assert "AVIF is not read: convert it" in refusal(shared / "data" / "nasty" / "avif__rot1mir0.avif")


def test_a_photo_error_crosses_to_another_process_whole(tmp_path):
    for path in broken_files(tmp_path):
        with pytest.raises(PhotoError) as caught:
            read_rgb(path)
        arrived = pickle.loads(pickle.dumps(caught.value))
        assert type(arrived) is PhotoError
        assert str(arrived) == str(caught.value)


@pytest.mark.parametrize("pillows_limit", [Image.MAX_IMAGE_PIXELS, None], ids=["beside Pillow's", "alone"])
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch, pillows_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    (tmp_path / "bomb.png").write_bytes(png_by_hand(30000, 30000, 8, 2, b""))
    began = time.perf_counter()
    message = refusal(tmp_path / "bomb.png", min_side=64)
    assert time.perf_counter() - began < 2
    assert "limit" in message
    assert "30000x30000" in message or f"{30000 * 30000}" in message


def test_the_limit_of_pixels_is_the_one_that_is_written_down(tmp_path, monkeypatch):
    assert MAX_PIXELS == 2 * 89_478_485
    Image.new("RGB", (10, 10)).save(tmp_path / "at.png")
    Image.new("RGB", (11, 10)).save(tmp_path / "over.png")
    monkeypatch.setattr(photos, "MAX_PIXELS", 100)
    assert read_rgb(tmp_path / "at.png").size == (10, 10)
    assert "11x10 is over the limit of 100 pixels" in refusal(tmp_path / "over.png")


def test_read_rgb_of_bytes_at_hand_does_not_open_the_file(tmp_path):
    draw_photo(7).save(tmp_path / "photo.png")
    data = (tmp_path / "photo.png").read_bytes()
    read = read_rgb(tmp_path / "elsewhere.png", data=data)
    np.testing.assert_array_equal(pixels(read), pixels(draw_photo(7)))
    refusal(tmp_path / "elsewhere.png", data=data[:200])


# read_rgb: decoding small


@pytest.mark.parametrize("size", [(800, 600), (601, 403), (403, 601), (1000, 333)], ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize("min_side", [1, 41, 42, 50, 51, 75, 76, 200, 300, 301, 403, 5000])
def test_a_jpeg_decoded_small_keeps_its_short_side_and_its_colours(tmp_path, size, min_side):
    draw_photo(8, *size).save(tmp_path / "photo.jpg", quality=95)
    full, small = read_rgb(tmp_path / "photo.jpg"), read_rgb(tmp_path / "photo.jpg", min_side=min_side)
    assert full.size == size
    assert min(small.size) >= min(min_side, *size)
    shrunk = round(size[0] / small.width)
    assert shrunk in (1, 2, 4, 8)
    assert small.size == tuple(-(-side // shrunk) for side in size)
    assert shrunk == max(n for n in (1, 2, 4, 8) if n == 1 or min(size) // n >= min_side)
    whole = tuple(side // 8 * 8 for side in size)
    expected = pixels(full.crop((0, 0, *whole)).reduce(shrunk))
    actual = pixels(small)[: whole[1] // shrunk, : whole[0] // shrunk]
    assert np.abs(actual - expected).mean() < 1


def test_other_formats_are_decoded_at_full_size(tmp_path):
    draw_photo(8, 200, 100).save(tmp_path / "photo.png")
    assert read_rgb(tmp_path / "photo.png", min_side=10).size == (200, 100)


# The shared odd files


def test_every_nasty_file_is_read_or_refused_in_bounded_time(shared):
    nasty = shared / "data" / "nasty"
    known = json.loads((nasty / "index.json").read_text())["files"]
    refused, wrong = [], []
    for name, fact in sorted(known.items()):
        began = time.perf_counter()
        try:
            read = read_rgb(nasty / name)
        except PhotoError as error:
            read = None
            assert str(error).startswith(f"{nasty / name}: ")
            assert len(str(error).splitlines()) == 1
            refused.append(str(error).removeprefix(f"{nasty}/"))
        if time.perf_counter() - began > 5:
            wrong.append(f"{name} took more than 5 seconds")
        allowed = fact["loads"] and fact["format"] in (*FORMATS, "MPO")
        if (read is not None) != allowed:
            wrong.append(f"{name} is {'refused' if read is None else 'read'}")
        if read is not None:
            turned = fact.get("orientation", 1) >= 5
            if read.mode != "RGB" or list(read.size) != fact["size"][:: -1 if turned else 1]:
                wrong.append(f"{name} is {read.mode} {read.size}")
    print("refused:", *refused, sep="\n  ")
    assert not wrong
    assert len(refused) == 8


def test_every_nasty_file_read_small_keeps_its_short_side(shared):
    for path in sorted((shared / "data" / "nasty").iterdir()):
        try:
            full = read_rgb(path)
        except PhotoError:
            continue
        assert min(read_rgb(path, min_side=64).size) >= min(64, *full.size), path.name


# Pixels


@pytest.mark.parametrize("folder", ["nasty", "scenes/val", "legacy"])
def test_pixels_are_those_of_the_one_reader(shared, folder):
    """To the last bit, and the same words for what cannot be read."""

    def read(reader, path, **options):
        try:
            return np.array(reader(path, **options))
        except PhotoError as error:
            return str(error)

    for path in photos.walk(shared / "data" / folder)[0]:
        for options in ({}, {"min_side": 100}):
            pixels, expected = (read(reader, path, **options) for reader in (photos.read_pixels, read_rgb))
            assert np.array_equal(pixels, expected), path.name


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, True),
        ({"progressive": True}, True),
        ({"subsampling": 0}, True),
        ({"exif": Image.Exif()}, True),
        ({"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}, True),
        ({"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()}, False),
        ({"exif": {ExifTags.Base.Orientation: 6}}, False),
    ],
    ids=["baseline", "progressive", "4:4:4", "exif", "sRGB", "another profile", "not upright"],
)
def test_only_plain_jpegs_are_decoded_by_simplejpeg(tmp_path, monkeypatch, options, plain):
    if isinstance(options.get("exif"), dict):
        block = Image.Exif()
        block.update(options["exif"])
        options = {"exif": block}
    draw_photo(1, 61, 47).save(tmp_path / "photo.jpg", **options)
    decoded = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *of, **how: decoded.append(1) or decode(*of, **how))
    pixels = photos.read_pixels(tmp_path / "photo.jpg")
    assert np.array_equal(pixels, np.array(read_rgb(tmp_path / "photo.jpg")))
    assert bool(decoded) == plain


def test_what_simplejpeg_refuses_is_pillows(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("no")

    draw_photo(1).save(tmp_path / "photo.jpg")
    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    assert np.array_equal(photos.read_pixels(tmp_path / "photo.jpg"), np.array(read_rgb(tmp_path / "photo.jpg")))


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_pixels_of_a_jpeg_that_was_cut_off_are_refused(tmp_path, share):
    draw_photo(1, 300, 200).save(tmp_path / "photo.jpg", quality=95)
    whole = (tmp_path / "photo.jpg").read_bytes()
    (tmp_path / "photo.jpg").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PhotoError, match=r"photo\.jpg: broken"):
        photos.read_pixels(tmp_path / "photo.jpg")
