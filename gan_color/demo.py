"""The page that colours photographs in a browser: `gan-color demo`, a cell of a notebook, a Space."""

import functools
import html
import ipaddress
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

# Before gradio is imported: it tells nobody that it runs.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

try:
    import gradio as gr
except ImportError as error:
    from gan_color.errors import GanColorError

    raise GanColorError(f"{error.name} is not installed: pip install 'gan-color[demo]'") from error

from gan_color import inference, visits
from gan_color.checkpoint import load_generator
from gan_color.config import ColorizeConfig, DemoConfig
from gan_color.data import encode, photos, sources
from gan_color.errors import CheckpointError, GanColorError, PhotoError, Stopped, shown
from gan_color.generators import hub

_AS_TRAINED = "as trained"
_SIZES = [_AS_TRAINED, "128", "192", "256", "384", "512", "768", "1024"]
# Photographs that wait for the network, beyond which a visitor is told to come again.
_LONGEST_QUEUE = 64
# Gradio's galleries want 100 pixels a column and 320 of height, too much for a telephone.
_STYLE = """
footer {display: none}
.gradio-container {max-width: 1240px !important; margin: auto}
.grid-container {grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)) !important; grid-auto-rows: auto}
.grid-wrap {min-height: 0 !important; max-height: none !important}
"""
_INTRODUCTION = """# Colour grey photographs
The result keeps the photograph's own size, lightness and EXIF. Nothing leaves the computer that serves this page, and
what you upload is deleted from it when you close the page."""


def run(config: DemoConfig) -> None:
    """Serve the page until it is interrupted: `gan-color demo`.

    Raises:
        CheckpointError: there is no generator, or one that was named cannot be loaded.
        GanColorError: the port is taken.
        Stopped: SIGTERM or SIGHUP came.
    """
    stopped = []

    def stop(signum: int, frame: object) -> None:
        stopped.append(signum)
        raise KeyboardInterrupt

    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, stop)
    page = launch(config.checkpoint, config.host, config.port, config.share, config.device, config.max_megabytes)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        if stopped:
            raise Stopped(stopped[0], f"{signal.Signals(stopped[0]).name}: the page is closed") from None
        raise
    finally:
        page.close(verbose=False)
        page.temporary.cleanup()


def launch(
    checkpoints: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    device: str = "auto",
    max_megabytes: int = 200,
) -> gr.Blocks:
    """Serve the page from a thread of this process; in a notebook it is shown below the cell.

    Args:
        checkpoints: generators as `load_generator` takes them; none = those found in the folder `checkpoints`.
        host: address to listen on.
        port: port to listen on; None = the first that is free from 7860 on.
        share: also make a public link, through a server of Gradio's.
        device: cpu, cuda, cuda:N, mps, or auto.
        max_megabytes: largest file that may be uploaded, MB.

    Returns:
        Gradio's page, served; `close()` ends it, and the process's end deletes its files.

    Raises:
        CheckpointError: there is no generator, or one that was named cannot be loaded.
        GanColorError: the port is taken.
    """
    named = _short_names(checkpoints) or found(Path("checkpoints"))
    load = functools.cache(lambda name: load_generator(named[name], device))
    for name in named if checkpoints else ():
        load(name)
    temporary = tempfile.TemporaryDirectory(prefix="gan-color-demo-", ignore_cleanup_errors=True)
    # Gradio keeps uploads there; of no use to other pages of this process, which make their own.
    os.environ["GRADIO_TEMP_DIR"] = temporary.name
    page = _page(named, load, Path(temporary.name))
    page.temporary = temporary  # lives as long as the page
    if not _is_loopback(host):
        print(f"warning: --host {host}: everyone who reaches this address can use the page", file=sys.stderr)
    try:
        page.queue(max_size=_LONGEST_QUEUE).launch(
            server_name=host,
            server_port=port,
            share=share,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=max_megabytes * 10**6,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=_STYLE,
        )
    except OSError as error:
        raise GanColorError(f"--port {port} on {host}: {error}; give another --port") from error
    print(f"open {page.local_url}" + (f" or {page.share_url}" if page.share_url else ""), flush=True)
    return page


def found(folder: Path) -> dict[str, str]:
    """Find generators, those of runs' best and last steps and those that were saved for use.

    Args:
        folder: looked through with its subfolders, but for a run's snapshots.

    Returns:
        Name for the page to folder, stage two first.

    Raises:
        CheckpointError: there is none.
    """
    first, others = {}, {}
    for path in sorted(folder.rglob(f"*/{hub.WEIGHTS}")):
        place = path.parent.relative_to(folder)
        if "snapshots" in place.parts:
            continue
        try:
            training = hub.read_generator_config(path.parent)["training"]
        except CheckpointError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        name = str(place.parent if place.name == "generator" and place.parent.parts else place)
        (first if training.get("stage") == "gan" else others)[name] = str(path.parent)
    if not first and not others:
        raise CheckpointError(f"there is no generator in {shown(folder)}: train one, or give --checkpoint")
    return first | others


def _short_names(checkpoints: Sequence[str]) -> dict[str, str]:
    """Names that tell generators apart by as few last parts of their paths as it takes: a visitor sees no more."""
    paths = {given: Path(given).absolute() for given in dict.fromkeys(checkpoints)}
    count = 1
    while len({path.parts[-count:] for path in paths.values()}) < len(set(paths.values())):
        count += 1
    return {str(Path(*path.parts[-count:])): given for given, path in paths.items()}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _page(named: dict[str, str], load, folder: Path) -> gr.Blocks:
    """Lay out the page, and say what each click does.

    Args:
        named: generators, name to folder.
        load: name to generator.
        folder: where uploads lie.
    """
    everyone = visits.Visits(folder)
    examples = _examples(folder / "examples" / "grey")

    def upload(files: list[dict] | None, request: gr.Request) -> None:
        everyone.take(request.session_hash, files)

    def example(selected: gr.SelectData) -> list[str]:
        return [str(examples[selected.index])]

    def colour(files, names, saturation, size, drop_gps, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        if not files:
            raise gr.Error("Choose a photograph first.", print_exception=False)
        if not names:
            raise gr.Error("Choose a generator first.", print_exception=False)
        visit = everyone.of(request.session_hash)
        try:
            uploads = everyone.take(request.session_hash, files)
            shutil.rmtree(visit.folder, ignore_errors=True)
            visit.results, visit.runs = [], visit.runs + 1
            told = []
            total = len(uploads) * len(names)
            for number, name in enumerate(names):
                config = ColorizeConfig(
                    inputs=tuple(map(str, uploads)),
                    checkpoint=named[name],
                    output=visit.folder / str(visit.runs) / _as_folder(name),
                    size=None if size == _AS_TRAINED else int(size),
                    saturation=saturation,
                    drop_gps=drop_gps,
                )
                progress((number * len(uploads), total), desc="colouring", unit="photographs")
                for outcome in visits.colour(visit, uploads, load(name), name, config):
                    told.append(outcome)
                    progress((len(told), total), desc="colouring", unit="photographs")
                    if everyone.open.get(request.session_hash) is not visit:
                        break
        except GanColorError as error:
            raise gr.Error(html.escape(_without_folders(str(error), uploads)), print_exception=False) from error
        finally:
            if everyone.open.get(request.session_hash) is not visit:  # the visitor left meanwhile
                shutil.rmtree(visit.folder, ignore_errors=True)
        for outcome in told:
            if outcome.error and len(told) <= 10:
                gr.Warning(html.escape(_without_folders(outcome.error, uploads)))
        visit.results.sort(key=lambda result: uploads.index(result.source))  # a photograph's versions side by side
        shown_results = [(str(result.thumbnail), result.name) for result in visit.results]
        several = len(visit.results) > 1
        everything = gr.DownloadButton(value=visits.bundle(visit) if several else None, visible=several)
        gallery = gr.Gallery(
            shown_results, visible=several, columns=len(names) if len(names) > 1 else 3, selected_index=None
        )
        return _said(told, uploads), gallery, everything, *show(0, visit)

    def show(number: int, visit: visits.Visit) -> tuple:
        if number >= len(visit.results):
            return gr.ImageSlider(None), gr.DownloadButton(visible=False), None, -1
        result = visit.results[number]
        slider = gr.ImageSlider(tuple(map(str, visits.grey_and_coloured(result))), label=result.name)
        return slider, gr.DownloadButton(value=result.target, visible=True), None, number

    def select(selected: gr.SelectData, request: gr.Request) -> tuple:
        try:
            return show(selected.index, everyone.of(request.session_hash))
        except (OSError, PhotoError):  # the next click has begun, and cleared it away
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()

    def histogram(number: int, request: gr.Request) -> str | None:
        results = everyone.of(request.session_hash).results
        try:
            return str(visits.histogram(results[int(number)])) if 0 <= number < len(results) else None
        except (OSError, PhotoError):  # as above
            return None

    def leave(request: gr.Request) -> None:
        everyone.end(request.session_hash)

    with gr.Blocks(title="gan_color", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label="Photographs", file_count="multiple", height=180, elem_id="photographs")
                names = gr.CheckboxGroup(
                    list(named), value=[next(iter(named))], label="Generators, side by side", elem_id="generators"
                )
                saturation = gr.Slider(0, 2, 1, step=0.05, label="Saturation (1 = as predicted, 0 = grey)")
                size = gr.Dropdown(
                    _SIZES, value=_AS_TRAINED, label="Working size (short side the network sees, pixels)"
                )
                drop_gps = gr.Checkbox(label="Leave out where the photograph was taken")
                button = gr.Button("Colour", variant="primary", elem_id="colour")
                gr.Markdown("Or try one of these:")
                gallery_of_examples = gr.Gallery(
                    [str(path) for path in examples],
                    show_label=False,
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    buttons=[],
                    elem_id="examples",
                )
            with gr.Column(scale=3, min_width=300):
                slider = gr.ImageSlider(
                    label="Grey | coloured", interactive=False, max_height=640, buttons=["fullscreen"], elem_id="slider"
                )
                said = gr.Textbox(label="What became of them", lines=2, max_lines=12, interactive=False, elem_id="said")
                download = gr.DownloadButton("Download, full size", visible=False, elem_id="download")
                everything = gr.DownloadButton("Download all (zip)", visible=False, elem_id="everything")
                gallery = gr.Gallery(
                    show_label=False,
                    allow_preview=False,
                    visible=False,
                    height="auto",
                    buttons=[],
                    elem_id="results",
                )
                with gr.Accordion("Histogram", open=False, elem_id="histogram"):
                    drawn = gr.Image(show_label=False, interactive=False, buttons=[])
        number = gr.Number(-1, visible=False)

        # Raw values (preprocess=False): Gradio would leave an empty file behind for each upload that it reads.
        quiet = {"preprocess": False, "show_progress": "hidden", "api_visibility": "private"}
        one_picture = [slider, download, drawn, number]
        files.upload(upload, files, None, queue=False, **quiet)
        gallery_of_examples.select(example, None, files, queue=False, **quiet)
        coloured = button.click(
            colour,
            [files, names, saturation, size, drop_gps],
            [said, gallery, everything, *one_picture],
            preprocess=False,
            show_progress_on=[slider],
            concurrency_limit=1,
            api_visibility="private",
        )
        # Drawn behind the picture, which does not wait for it.
        coloured.then(histogram, number, drawn, **quiet)
        gallery.select(select, None, one_picture, **quiet).then(histogram, number, drawn, **quiet)
        page.unload(leave)
    return page


def _examples(folder: Path) -> list[Path]:
    """The embedded photographs, in grey."""
    folder.mkdir(parents=True)
    paths = []
    for part in sources.samples():
        for source in part:
            path = folder / f"{source.stem}.jpg"
            path.write_bytes(encode.encode(inference.grey(photos.read_photo(source)), path)[0])
            paths.append(path)
    return paths


def _as_folder(name: str) -> str:
    """A generator's name as that of one folder."""
    return "-".join(part for part in Path(name).parts if part not in ("/", "..", ".")).replace(".", "_")


def _without_folders(sentence: str, uploads: Sequence[Path]) -> str:
    """A sentence about uploads by their own names alone."""
    for path in uploads:
        sentence = sentence.replace(f"{path.parent}{os.sep}", "")
    return sentence


def _said(told: list, uploads: Sequence[Path]) -> str:
    """What became of the photographs: a count, then what is to be known of each."""
    lines = [f"coloured {sum(outcome.result == 'coloured' for outcome in told)} of {len(told)}"]
    lines += [_without_folders(outcome.error, uploads) for outcome in told if outcome.error]
    lines += [f"{Path(outcome.source).name}: {note}" for outcome in told for note in outcome.notes]
    return "\n".join(dict.fromkeys(lines))
