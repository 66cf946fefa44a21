"""Serves the page that colours photographs in a browser: `gan-color demo`, a cell of a notebook, a Space."""

import functools
import ipaddress
import os
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

from gan_color import page
from gan_color.checkpoint import load_generator
from gan_color.commands import DemoConfig
from gan_color.errors import CheckpointError, GanColorError, Stopped, shown
from gan_color.generators.hub import read_generator_config
from gan_color.generators.places import WEIGHTS, shipped

# Photographs that wait for the network, beyond which a visitor is told to come again.
_LONGEST_QUEUE = 64


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
    served = launch(config.checkpoint, config.host, config.port, config.share, config.device, config.max_megabytes)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        if stopped:
            raise Stopped(stopped[0], f"{signal.Signals(stopped[0]).name}: the page is closed") from None
        raise
    finally:
        served.close(verbose=False)
        served.temporary.cleanup()


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
        checkpoints: generators as `load_generator` takes them; none = those that come with gan_color, and those found
            in the folder `checkpoints`.
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
    named = _short_names(checkpoints) or offered(Path("checkpoints"))
    load = functools.cache(lambda name: load_generator(named[name], device))
    for name in named if checkpoints else ():
        load(name)
    temporary = tempfile.TemporaryDirectory(prefix="gan-color-demo-", ignore_cleanup_errors=True)
    # Gradio keeps uploads there; of no use to other pages of this process, which make their own.
    os.environ["GRADIO_TEMP_DIR"] = temporary.name
    served = page.lay_out(named, load, Path(temporary.name))
    served.temporary = temporary  # lives as long as the page
    if not _is_loopback(host):
        print(f"warning: --host {host}: everyone who reaches this address can use the page", file=sys.stderr)
    try:
        served.queue(max_size=_LONGEST_QUEUE).launch(
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
            css=page.STYLE,
        )
    except OSError as error:
        raise GanColorError(f"--port {port} on {host}: {error}; give another --port") from error
    print(f"open {served.local_url}" + (f" or {served.share_url}" if served.share_url else ""), flush=True)
    return served


def offered(folder: Path) -> dict[str, str]:
    """The generators that come with gan_color, then those of runs' best and last steps and those saved for use.

    Args:
        folder: looked through with its subfolders, but for a run's snapshots.

    Returns:
        Name for the page to folder; of those in the folder, stage two's first.

    Raises:
        CheckpointError: there is none.
    """
    first = {name: str(path) for name, path in shipped().items()}
    gan, others = {}, {}
    for path in sorted(folder.rglob(f"*/{WEIGHTS}")):
        place = path.parent.relative_to(folder)
        if "snapshots" in place.parts:
            continue
        try:
            training = read_generator_config(path.parent)["training"]
        except CheckpointError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        name = str(place.parent if place.name == "generator" and place.parent.parts else place)
        (gan if training.get("stage") == "gan" else others)[name] = str(path.parent)
    if not first | gan | others:
        raise CheckpointError(f"there is no generator in {shown(folder)}: train one, or give --checkpoint")
    return first | gan | others


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
