"""The group of all commands, and the exit codes of their failures."""

import sys
from io import StringIO

import click

import agrad
from agrad.cli.demo import demo
from agrad.cli.doctor import doctor
from agrad.cli.inspect import inspect
from agrad.cli.interrupt import lost_output_interrupts
from agrad.cli.output import printable
from agrad.cli.study import study
from agrad.cli.train import train
from agrad.cli.trained import evaluate, predict

__all__ = ["app", "run"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(agrad.__version__, prog_name="agrad")
def app() -> None:
    """Train deep plain networks with average gradients.

    Start with `agrad demo`.
    """


app.add_command(demo)
app.add_command(train)
app.add_command(predict)
app.add_command(evaluate)
app.add_command(inspect)
app.add_command(study)
app.add_command(doctor)


def run() -> int:
    """Run the command in `sys.argv` and return its exit code; see `agrad.cli.main`.

    Raises:
        KeyboardInterrupt: The command was interrupted.
    """
    try:
        with lost_output_interrupts():
            return app.main(standalone_mode=False) or 0
    except click.ClickException as error:
        text = StringIO()
        error.show(text)
        print(*map(printable, text.getvalue().splitlines()), sep="\n", file=sys.stderr)
        return error.exit_code
    except click.Abort as abort:  # click turns a KeyboardInterrupt into this
        interrupt = abort.__cause__ or KeyboardInterrupt()
        raise interrupt from interrupt.__cause__  # `main` asks whether output was lost
    except (ImportError, OSError, ValueError) as error:
        print("agrad:", printable(" ".join(str(error).split())), file=sys.stderr)
        return 1
