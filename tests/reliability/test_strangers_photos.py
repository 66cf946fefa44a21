"""Row E: photographs from anyone, by hand, mutated, and the shared odd ones: read, or refused by name."""

import io
import struct
import time
import zlib
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import runs
from conftest import draw_photo
from PIL import Image, ImageCms, PngImagePlugin
from test_bad_checkpoints import limit_memory, mutated, peak

from gan_color.data.photos import read_photo, read_rgb
from gan_color.errors import PhotoError

WRITTEN = {"JPEG": {}, "PNG": {}, "WEBP": {}, "TIFF": {}, "BMP": {}, "GIF": {}}


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int, colour_type: int, rows: bytes, chunks: bytes = b"") -> bytes:
    """A PNG by hand, as Pillow would not write it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def by_hand() -> dict[str, tuple[bytes, bool | None]]:
    """Name to content and whether it can be read; None = either will do."""
    photo = draw_photo(1, 48, 40)
    jpeg, png_file = saved(photo, "JPEG"), saved(photo, "PNG")
    files: dict[str, tuple[bytes, bool | None]] = {}
    for kind in WRITTEN:
        files[f"plain {kind}"] = saved(photo, kind), True
        files[f"half of a {kind}"] = (
            saved(photo, kind)[: len(saved(photo, kind)) // 2],
            None if kind == "BMP" else False,
        )
        files[f"first 20 bytes of a {kind}"] = saved(photo, kind)[:20], False
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        image = photo.convert("P" if mode == "P" else "L").convert(mode)
        files[f"PNG of mode {mode}"] = saved(image, "PNG"), True
    for mode in ("CMYK", "LAB", "YCbCr", "I;16", "F", "I"):
        image = photo.convert("L").convert(mode) if mode in ("I;16", "F", "I") else photo.convert("RGB")
        if mode == "LAB":
            image = ImageCms.profileToProfile(
                image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
            )
        elif mode in ("CMYK", "YCbCr"):
            image = image.convert(mode)
        # Pillow reads its own YCbCr TIFF from version 13 on.
        is_read = mode != "YCbCr" or int(PIL.__version__.split(".")[0]) >= 13
        files[f"TIFF of mode {mode}"] = saved(image, "TIFF"), is_read
    files["CMYK JPEG"] = saved(photo.convert("CMYK"), "JPEG"), True
    files["progressive JPEG"] = saved(photo, "JPEG", progressive=True), True
    files["JPEG with junk behind"] = jpeg + bytes(1000), True
    files["JPEG with junk before"] = bytes(10) + jpeg, False
    files["two JPEGs in one"] = jpeg + jpeg, True
    files["JPEG whose size says 65500x65500"] = _resized(jpeg, 65500, 65500), False
    files["JPEG of size 0"] = _resized(jpeg, 0, 0), False
    for value in (2, 6, 8, 99):
        exif = Image.Exif()
        exif[0x0112] = value
        files[f"orientation {value}"] = saved(photo, "JPEG", exif=exif), True
    files["EXIF of nonsense"] = saved(photo, "JPEG", exif=b"Exif\0\0" + bytes(range(200))), True
    files["profile of nonsense"] = saved(photo, "JPEG", icc_profile=bytes(range(256)) * 4), True
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files["profile cut off"] = saved(photo, "PNG", icc_profile=profile[:90]), True
    frames = [draw_photo(i, 48, 40) for i in range(3)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        files[f"animated {kind}"] = saved(frames[0], kind, save_all=True, append_images=frames[1:]), True
    files["one pixel"] = saved(photo.resize((1, 1)), "PNG"), True
    files["one row"] = saved(photo.resize((3000, 1)), "JPEG"), True
    files["one column"] = saved(photo.resize((1, 3000)), "PNG"), True
    files["30000x30000 of nothing"] = png(30000, 30000, 1, 0, bytes(100)), False
    files["13000x13000 grey with ten rows"] = png(13000, 13000, 8, 0, bytes(13001 * 10)), None
    files["2 000 000 000 wide"] = png(2_000_000_000, 1, 8, 0, bytes(10)), False
    files["PNG of no rows"] = png(48, 40, 8, 2, b""), False
    files["PNG of bad rows"] = png(48, 40, 8, 2, bytes([9]) * (40 * 145)), False
    text = PngImagePlugin.PngInfo()
    text.add_text("note", "x" * 2_000_000, zip=True)
    files["PNG with 2 MB of text in 2 kB"] = saved(photo, "PNG", pnginfo=text), None
    files["PNG with a wrong checksum"] = png_file[:-20] + b"\0\0\0\0" + png_file[-16:], None
    files["nothing"] = b"", False
    files["zeros"] = bytes(5000), False
    files["HTML"] = b"<!doctype html><html><body>404</body></html>", False
    files["Python"] = b"import os\nos.system('true')\n", False
    files["PostScript"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) show\n", False
    files["PDF"] = b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", False
    files["SVG"] = b"<svg xmlns='http://www.w3.org/2000/svg'/>", False
    files["PSD"] = b"8BPS\0\1" + bytes(200), False
    files["FITS"] = b"SIMPLE  =                    T" + bytes(2850), False
    files["zip"] = b"PK\3\4" + bytes(200), False
    files["PPM"] = saved(photo, "PPM"), False
    files["ICO"] = saved(photo, "ICO"), False
    return files


def _resized(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG that says another size in its frame header than it has."""
    at = next(jpeg.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in jpeg)
    return jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 :]


def read_all(contents: dict[str, bytes], folder: str) -> dict:
    """Read each by both readers in bounded memory; outcome by name, and what should not be."""
    limit_memory(1 << 30)
    outcomes, odd, slowest = {}, [], 0.0
    for name, content in contents.items():
        path = Path(folder) / "photo.jpg"
        path.write_bytes(content)
        for read in (partial(read_rgb, min_side=32), read_photo):
            begun = time.monotonic()
            try:
                read(path)
                outcome = "read"
            except PhotoError as error:
                outcome = "refused"
                if "\n" in str(error) or not str(error).startswith(str(path)):
                    odd.append(f"{name}: unnamed: {error}")
            except BaseException as error:
                outcome = "unnamed"
                odd.append(f"{name}: {error!r}")
            slowest = max(slowest, time.monotonic() - begun)
            if outcomes.setdefault(name, outcome) != outcome:
                odd.append(f"{name}: one reader says {outcomes[name]}, the other {outcome}")
    return {"outcomes": outcomes, "odd": odd, "slowest": slowest, "rss": peak()}


def read_mutated(seed: int, times: int, folder: str) -> dict:
    """Read photographs of all formats after some of their bytes were changed."""
    chance = np.random.default_rng(seed)
    wholes = [saved(draw_photo(i, 40, 36), kind, **how) for i, (kind, how) in enumerate(WRITTEN.items())]
    contents = {str(i): mutated(wholes[i % len(wholes)], chance) for i in range(times)}
    result = read_all(contents, folder)
    odd = [line for line in result["odd"] if "one reader says" not in line]  # the one that reads less sees less
    return result | {"outcomes": Counter(result["outcomes"].values()), "odd": odd}


def test_files_by_hand(tmp_path, figure):
    files = by_hand()
    contents = {name: content for name, (content, _) in files.items()}
    result = runs.result_of(partial(read_all, contents, str(tmp_path)), tmp_path / "log")
    wrong = {
        name: result["outcomes"][name]
        for name, (_, readable) in files.items()
        if readable is not None and result["outcomes"][name] != ("read" if readable else "refused")
    }
    counts = Counter(result["outcomes"].values())
    figure(
        "E",
        f"{len(files)} by hand: {counts['read']} read, {counts['refused']} refused by name, {counts['unnamed']} "
        f"otherwise; slowest {result['slowest']:.1f} s, at most {result['rss']} MB",
    )
    assert len(files) >= 60
    assert not wrong and not result["odd"] and result["slowest"] < 5


def test_mutated_files(tmp_path, full, figure, request):
    seed, times = request.config.getoption("--fault-seed"), 10_000 if full else 1500
    result = runs.result_of(partial(read_mutated, seed, times, str(tmp_path)), tmp_path / "log")
    counts = result["outcomes"]
    figure(
        "E",
        f"{times} mutated: {counts['read']} read, {counts['refused']} refused by name, "
        f"{counts.get('unnamed', 0)} otherwise; slowest {result['slowest']:.1f} s, at most {result['rss']} MB",
    )
    assert not result["odd"] and result["slowest"] < 5, f"--fault-seed {seed}"


def test_the_shared_odd_files(shared, tmp_path, figure):
    paths = sorted(path for path in (shared / "data" / "nasty").iterdir() if path.suffix != ".json")
    result = runs.result_of(partial(read_paths, [str(path) for path in paths]), tmp_path / "log")
    counts = Counter(result["outcomes"])
    figure(
        "E",
        f"{len(paths)} shared odd files: {counts['read']} read, {counts['refused']} refused by name, "
        f"{counts['unnamed']} otherwise; slowest {result['slowest']:.1f} s",
    )
    assert counts["unnamed"] == 0 and counts.total() == len(paths) and result["slowest"] < 5


def read_paths(paths: list[str]) -> dict:
    limit_memory(1 << 30)
    outcomes, slowest = [], 0.0
    for path in paths:
        begun = time.monotonic()
        try:
            read_photo(Path(path))
            outcomes.append("read")
        except PhotoError as error:
            outcomes.append("refused" if str(error).startswith(path) else "unnamed")
        except Exception:
            outcomes.append("unnamed")
        slowest = max(slowest, time.monotonic() - begun)
    return {"outcomes": outcomes, "slowest": slowest}
