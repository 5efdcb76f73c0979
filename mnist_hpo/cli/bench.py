"""`mnist-hpo bench …`: speed measurements, as ratios within one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from mnist_hpo.cli.common import JsonOption, console, print_json
from mnist_hpo.cli.help import Command, Group
from mnist_hpo.cli.output_file import PNG_PICTURE, ForceOption, OutputFile, check_outputs, write_and_report

app = typer.Typer(cls=Group, help="Measure speed, as ratios within one run.", no_args_is_help=True)

PrecisionOption = Annotated[
    Literal["bf16", "fp32"],
    typer.Option(help="Precision of matrix products, as fixed: {precision: …} in a study file."),
]
ListArgument = Annotated[Path, typer.Argument(metavar="LIST.json", help="A list of trainings.")]


@app.command("replay", cls=Command)
def replay(
    trainings: ListArgument,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; by default one per core.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Start from an empty compilation cache.")] = False,
    precision: PrecisionOption = "bf16",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the trainings.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Replay a list of trainings through the workers that studies use, and report where the time went.

    Each entry is {depth, width, batch_size, learning_rate, dropout, l2, epochs} of an MLP, or names a model (cnn, rnn,
    transformer) and has that model's hyperparameters; n_train is optional. Every epoch is validated. Wall time counts
    from the start of this process. The machine's sgemm peak is measured in the same run.

    Example: mnist-hpo bench replay trainings.json --cold
    """
    from mnist_hpo.bench.peak import sgemm_peak_gflops
    from mnist_hpo.bench.replay import process_start_unix_s
    from mnist_hpo.bench.replay import replay as run_replay
    from mnist_hpo.bench.trainings import read_trainings
    from mnist_hpo.cli.schemas.bench import BenchReplayOutput
    from mnist_hpo.executors.cores import usable_cores

    found = run_replay(
        read_trainings(trainings),
        n_workers=workers,
        cold=cold,
        precision=precision,
        seed=seed,
        process_start_s=process_start_unix_s(),
    )
    figures = found.figures(sgemm_peak_gflops(usable_cores()[: found.n_workers]))
    if as_json:
        print_json(BenchReplayOutput.model_validate(figures))
    else:
        console().print(_replay_table(figures))


@app.command("peers", cls=Command)
def peers(
    trainings: ListArgument,
    rounds: Annotated[int, typer.Option(min=1, help="How many times each contender trains the whole list.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Compare the speed of mnist-hpo, PyTorch and, if it is installed, Ray Tune on the same trainings in one run.

    The contenders take turns. Each figure is the median over rounds; a round times a whole process. For a list of
    several models, the contenders train one model after the other, and a second table has the ratios of each model.
    The extra `bench` installs the other contenders. The entries are those of `bench replay`.

    Example: mnist-hpo bench peers studies/bench/rnn.json
    """
    from mnist_hpo.bench.peers import race
    from mnist_hpo.cli.schemas.bench import BenchPeersOutput

    def report(name: str, number: int, wall_s: float) -> None:
        console(to_stderr=True).print(f"round {number + 1} of {rounds}: {name}: {wall_s:.1f} s", soft_wrap=True)

    figures = race(trainings, n_rounds=rounds, on_run=report)
    if as_json:
        print_json(BenchPeersOutput.model_validate(figures))
    else:
        console().print(_peers_table(figures))
        if len(figures["models"]) > 1:
            console().print(_models_table(figures))


@app.command("roofline", cls=Command)
def roofline(
    picture: Annotated[Path, typer.Option(metavar="FILE.png", help="The picture to write.")] = Path("roofline.png"),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare epochs of several widths and batch sizes with plain matrix products of the same shapes, on one core.

    Example: mnist-hpo bench roofline --picture roofline.png
    """
    from mnist_hpo.bench.roofline import draw_roofline, measure_roofline
    from mnist_hpo.cli.schemas.bench import BenchRooflineOutput

    output = OutputFile("--picture", picture, PNG_PICTURE, force)
    check_outputs([output], prints_json=as_json)
    points = measure_roofline()
    write_and_report(output, draw_roofline(points))
    rows = [vars(point) for point in points]
    if as_json:
        print_json(BenchRooflineOutput.model_validate(rows))
        return
    table = Table(title="GFLOP/s on one core", title_justify="left")
    for column in ("width", "batch size", "bare sgemm", "epoch fp32", "epoch bf16"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{value:.0f}" for value in row.values()))
    if not output.is_standard_output:
        console().print(table)


@app.command("overhead", cls=Command)
def overhead(
    trials: Annotated[
        list[int] | None,
        typer.Option(min=10, help="Trials of a study; repeat it for several studies."),
    ] = None,
    sampler: Annotated[Literal["random", "tpe"], typer.Option(help="The sampler.")] = "random",
    as_json: JsonOption = False,
) -> None:
    """Measure everything but training: startup time, and the CPU time per trial when trainings take no time.

    CPU time is that of the coordinator (ask, report, prune, tell, record) and that of the helper process that writes
    MLflow.

    Example: mnist-hpo bench overhead --trials 100 --trials 1000
    """
    from mnist_hpo.bench.overhead import first_epoch_s, help_s, measure_overhead
    from mnist_hpo.cli.schemas.bench import BenchOverheadOutput

    figures: dict[str, Any] = {
        "help_s": help_s(),
        "first_epoch_s": first_epoch_s(),
        "studies": [measure_overhead(sampler, n_trials) for n_trials in trials or [100, 1000]],
    }
    if as_json:
        print_json(BenchOverheadOutput.model_validate(figures))
        return
    console().print(f"mnist-hpo --help: {figures['help_s']:.2f} s")
    console().print(f"mnist-hpo run to the first epoch's result: {figures['first_epoch_s']:.1f} s")
    table = Table(title=f"CPU milliseconds per trial of three epochs, sampler {sampler}", title_justify="left")
    for column in ("trials", "coordinator", "sampler's share", "first tenth", "last tenth", "growth", "MLflow process"):
        table.add_column(column, justify="right")
    table.add_column("memory growth", justify="right")
    for row in figures["studies"]:
        coordinator = ("cpu", "ask_cpu", "first_tenth_cpu", "last_tenth_cpu")
        table.add_row(
            f"{row['n_trials']:,}",
            *(f"{row[f'{name}_ms_per_trial']:.1f}" for name in coordinator),
            f"{row['growth']:.2f}",
            f"{row['mlflow_cpu_ms_per_trial']:.1f}",
            f"{row['grown_bytes'] / 1e6:.0f} MB",
        )
    console().print(table)


def _replay_table(figures: dict[str, Any]) -> Table:
    table = Table(
        title=f"replay on {figures['n_workers']} workers, {figures['precision']}",
        show_header=False,
        title_justify="left",
    )
    table.add_row("wall", f"{figures['wall_s']:.1f} s")
    table.add_row("model arithmetic", f"{figures['tflop']:.2f} TFLOP")
    table.add_row("speed", f"{figures['gflops']:.0f} GFLOP/s, {figures['fraction_of_peak']:.2f} of the sgemm peak")
    table.add_row("sgemm peak", f"{figures['sgemm_peak_gflops']:.0f} GFLOP/s")
    for name, seconds in figures["worker_s"].items():
        table.add_row(f"  {name}", f"{seconds:.1f} worker seconds")
    table.add_row("mean valid accuracy", f"{100 * figures['mean_valid_accuracy']:.2f} %")
    return table


def _peers_table(figures: dict[str, Any]) -> Table:
    title = (
        f"{figures['tflop']:.2f} TFLOP of trainings, medians of {figures['n_rounds']} rounds; "
        f"sgemm peak {figures['sgemm_peak_gflops']:.0f} GFLOP/s"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("contender")
    for column in ("seconds", "GFLOP/s", "of sgemm peak", "times PyTorch", "valid accuracy"):
        table.add_column(column, justify="right")
    for name, row in sorted(figures["contenders"].items(), key=lambda item: item[1]["median_wall_s"]):
        table.add_row(
            name,
            f"{row['median_wall_s']:.1f}",
            f"{row['gflops']:.0f}",
            f"{row['fraction_of_peak']:.2f}",
            f"{row['times_fastest_pytorch']:.2f}",
            f"{100 * row['mean_valid_accuracy']:.2f} %",
        )
    return table


def _models_table(figures: dict[str, Any]) -> Table:
    table = Table(title="times the fastest PyTorch mode, by model", title_justify="left")
    table.add_column("contender")
    for model in figures["models"]:
        table.add_column(model, justify="right")
    for name in figures["contenders"]:
        ratios = (contenders[name]["times_fastest_pytorch"] for contenders in figures["models"].values())
        table.add_row(name, *(f"{ratio:.2f}" for ratio in ratios))
    return table
