"""The page that colours photographs: what it shows, and what each click does."""

import contextlib
import html
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
from torch import nn

from gan_color import inference, visits
from gan_color.data import encode, photos, sources
from gan_color.errors import GanColorError, PhotoError

# What is below the list of files stays where it is when a file comes. Gradio's galleries want 100 pixels a column and
# 320 of height, too much for a telephone.
STYLE = """
footer {display: none}
#photographs {min-height: 180px}
.gradio-container {max-width: 1240px !important; margin: auto}
.grid-container {grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)) !important; grid-auto-rows: auto}
.grid-wrap {min-height: 0 !important; max-height: none !important}
"""
_AS_TRAINED = "as trained"
_SIZES = [_AS_TRAINED, "128", "192", "256", "384", "512", "768", "1024"]
# Photographs that cannot be read are each named in a warning of their own up to here; all are in the text.
_MOST_WARNINGS = 5
_INTRODUCTION = """# Colour grey photographs
The result keeps the photograph's own size, lightness and EXIF. Nothing leaves the computer that serves this page, and
what you upload is deleted from it when you close the page."""


def lay_out(named: dict[str, str], load: Callable[[str], nn.Module], folder: Path) -> gr.Blocks:
    """Lay out the page, and say what each click does.

    Args:
        named: generators, name to folder.
        load: name to generator.
        folder: where Gradio puts uploads.

    Returns:
        Gradio's page, not yet served.
    """
    everyone = visits.Visits(folder)
    examples = _examples(folder / "examples" / "grey")

    @contextlib.contextmanager
    def in_plain_words() -> Iterator[None]:
        """Show an error in the page, without a traceback on the terminal and without this computer's folders."""
        try:
            yield
        except GanColorError as error:
            raise gr.Error(html.escape(everyone.without_folders(str(error))), print_exception=False) from error

    def upload(files: list[dict] | None, request: gr.Request) -> list[str]:
        with in_plain_words():
            return [str(path) for path in everyone.take(request.session_hash, files)]

    def upload_folder(files: list[dict] | None, request: gr.Request) -> tuple[list[str], str]:
        sent = upload(files, request)
        suffixes = photos.SUFFIXES | photos.SUFFIXES_TO_CONVERT
        chosen = [path for path in sent if Path(path).suffix.lower() in suffixes]
        left_out = f"{len(sent) - len(chosen)} of {len(sent)} files are not named as photographs: left out"
        return chosen, left_out if len(chosen) < len(sent) else ""

    def example(selected: gr.SelectData, request: gr.Request) -> list[str]:
        return [str(everyone.add(request.session_hash, examples[selected.index]))]

    def colour(files, names, saturation, size, drop_gps, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        if not files:
            raise gr.Error("Choose a photograph first.", print_exception=False)
        if not names:
            raise gr.Error("Choose a generator first.", print_exception=False)
        visit = everyone.of(request.session_hash)
        told = []
        with in_plain_words():
            uploads = everyone.take(request.session_hash, files)
            total = len(uploads) * len(names)
            progress((0, total), desc="colouring", unit="photographs")
            generators = {name: load(name) for name in names}
            working_size = None if size == _AS_TRAINED else int(size)
            for outcome in visits.colour(visit, uploads, generators, working_size, saturation, drop_gps):
                told.append(outcome)
                progress((len(told), total), desc="colouring", unit="photographs")
        for outcome in [outcome for outcome in told if outcome.error][:_MOST_WARNINGS]:
            gr.Warning(html.escape(everyone.without_folders(outcome.error)))
        several = len(visit.results) > 1
        gallery = gr.Gallery(
            [(str(result.thumbnail), result.name) for result in visit.results],
            visible=several,
            columns=len(names) if len(names) > 1 else 3,
            selected_index=None,
        )
        everything = gr.DownloadButton(value=visits.bundle(visit) if several else None, visible=several)
        return "\n".join(everyone.told(told)), gallery, everything, *show(0, visit)

    def show(number: int, visit: visits.Visit) -> tuple:
        if number >= len(visit.results):
            return gr.ImageSlider(None), gr.DownloadButton(visible=False), None, -1
        result = visit.results[number]
        try:
            slider = gr.ImageSlider(tuple(map(str, visits.grey_and_coloured(result))), label=result.name)
        except (OSError, PhotoError):  # the next click has begun, and cleared it away
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        finally:
            visit.delete_if_ended()
        return slider, gr.DownloadButton(value=result.target, visible=True), None, number

    def select(selected: gr.SelectData, request: gr.Request) -> tuple:
        return show(selected.index, everyone.of(request.session_hash))

    def histogram(number: int, request: gr.Request) -> str | None:
        visit = everyone.of(request.session_hash)
        try:
            return str(visits.histogram(visit.results[int(number)])) if 0 <= number < len(visit.results) else None
        except (OSError, PhotoError):  # as above
            return None
        finally:
            visit.delete_if_ended()

    def leave(request: gr.Request) -> None:
        everyone.end(request.session_hash)

    with gr.Blocks(title="gan_color", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                files = gr.File(label="Photographs", file_count="multiple", height=180, elem_id="photographs")
                whole_folder = gr.UploadButton("Choose a folder", file_count="directory", size="sm", elem_id="folder")
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
        files.upload(upload, files, files, queue=False, **quiet)
        whole_folder.upload(upload_folder, whole_folder, [files, said], queue=False, **quiet)
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
