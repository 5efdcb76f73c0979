"""`mnist-hpo bench …`: how fast it is, as ratios inside one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mnist_hpo.cli.common import JsonOption, console, print_json

app = typer.Typer(help="Measure speed, as ratios inside one run.", no_args_is_help=True)

ListArgument = Annotated[Path, typer.Argument(metavar="LIST.json", help="A list of trainings.")]


@app.command("replay")
def replay(
    trainings: ListArgument,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; one on each core by default.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Start from an empty compilation cache.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="The trainings' seed.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Replay a list of trainings through the workers that studies use, and say where the time went.

    Each entry is {depth, width, batch_size, learning_rate, dropout, l2, epochs}; every epoch is validated. The wall
    clock starts with this process; the machine's sgemm peak is measured in the same run.

    Example: mnist-hpo bench replay trainings.json --cold
    """
    from mnist_hpo.bench.replay import process_start_unix_s
    from mnist_hpo.bench.replay import replay as run_replay
    from mnist_hpo.bench.trainings import read_trainings

    found = run_replay(
        read_trainings(trainings), n_workers=workers, cold=cold, seed=seed, process_start_s=process_start_unix_s()
    )
    figures = found.figures()
    if as_json:
        print_json(figures)
    else:
        console().print(_replay_table(figures))


@app.command("overhead")
def overhead(
    trials: Annotated[list[int] | None, typer.Option(min=10, help="Trials of a study; repeat for several.")] = None,
    sampler: Annotated[str, typer.Option(help="The sampler: random or tpe.")] = "random",
    as_json: JsonOption = False,
) -> None:
    """Measure what the coordinator costs a trial (ask, report, tell, record, MLflow), with trainings that take no time.

    Example: mnist-hpo bench overhead --trials 100 --trials 1000
    """
    from mnist_hpo.bench.overhead import measure_overhead

    figures = [measure_overhead(sampler, n_trials).figures() for n_trials in trials or [100, 1000]]
    if as_json:
        print_json(figures)
        return
    table = Table(title=f"coordinator's milliseconds a trial of three epochs, sampler {sampler}", title_justify="left")
    for column in ("trials", "search", "of the last tenth", "MLflow afterwards"):
        table.add_column(column, justify="right")
    for row in figures:
        values = ("search_ms_per_trial", "last_tenth_ms_per_trial", "tracking_ms_per_trial")
        table.add_row(f"{row['n_trials']:,}", *(f"{row[name]:.1f}" for name in values))
    console().print(table)


def _replay_table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"replay on {figures['n_workers']} workers", show_header=False, title_justify="left")
    table.add_row("wall", f"{figures['wall_s']:.1f} s")
    table.add_row("model arithmetic", f"{figures['tflop']:.2f} TFLOP")
    table.add_row("speed", f"{figures['gflops']:.0f} GFLOP/s, {figures['fraction_of_peak']:.2f} of the sgemm peak")
    table.add_row("sgemm peak", f"{figures['sgemm_peak_gflops']:.0f} GFLOP/s")
    for name, seconds in figures["worker_s"].items():
        table.add_row(f"  {name}", f"{seconds:.1f} worker seconds")
    table.add_row("mean valid accuracy", f"{100 * figures['mean_valid_accuracy']:.2f} %")
    return table
