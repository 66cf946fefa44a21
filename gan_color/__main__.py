"""The verbs of `gan-color`. Imports torch only once the options are found to be right."""

import difflib
import importlib
import sys

from gan_color import commands, config
from gan_color.errors import UsageError, one_line_errors, shown
from gan_color.options import parse
from gan_color.version import __version__

# Verb: the dataclass of its options, and the module whose `run` does it.
VERBS = {
    "pretrain": (config.PretrainConfig, "gan_color.pretrain"),
    "gan": (config.GanConfig, "gan_color.gan"),
    "colorize": (commands.ColorizeConfig, "gan_color.folder"),
    "evaluate": (commands.EvaluateConfig, "gan_color.evaluate"),
    "data": (commands.DataConfig, "gan_color.dataset_report"),
    "export": (commands.ExportConfig, "gan_color.export"),
    "share": (commands.ShareConfig, "gan_color.share"),
    "demo": (commands.DemoConfig, "gan_color.demo"),
    "info": (commands.InfoConfig, "gan_color.info"),
}


def main(argv: list[str] | None = None, program: str | None = None) -> None:
    """Run one verb; ends the process with the exit code that fits.

    Args:
        argv: the verb and its options; None = the command line's.
        program: name for help and errors; None = `gan-color VERB`.
    """
    argv = sys.argv[1:] if argv is None else argv
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # any file name can be said in any locale
    with one_line_errors(program or "gan-color"):
        verb = argv[0] if argv else "--help"
        if verb in ("--help", "-h"):
            print(_overview())
        elif verb == "--version":
            print(f"gan-color {__version__}")
        elif verb in VERBS:
            config_class, module = VERBS[verb]
            options = parse(config_class, argv[1:], program or f"gan-color {verb}")
            importlib.import_module(module).run(options)
        else:
            near = difflib.get_close_matches(verb, VERBS, n=1)
            cure = f"; did you mean {near[0]}?" if near else ": see gan-color --help"
            raise UsageError(f"no verb {shown(verb)}{cure}")


def _overview() -> str:
    lines = ["usage: gan-color VERB [OPTIONS]", "", "verbs:"]
    lines += [f"  {verb:<10} {config_class.__doc__}" for verb, (config_class, _) in VERBS.items()]
    return "\n".join([*lines, "", "gan-color VERB --help lists the verb's options; gan-color --version the version."])


if __name__ == "__main__":
    main()
