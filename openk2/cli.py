"""One command, thin verbs: ``openk2 VERB ...``. Everything heavy is imported inside the verb that needs it."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from openk2 import __version__

if TYPE_CHECKING:
    from openk2.recipe import Recipe

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130

RL_STUDIES = {
    "partial": "do rollouts that pause and go on save the time of waiting for the longest?",
    "budget": "does a token budget with a penalty shorten answers at an equal score?",
    "ptx": "does the language-model loss keep what fine-tuning taught?",
    "temperature": "is sampling hot first and cool later better than one temperature?",
    "critic": "does the critic stay good, and its reward honest, when verified rollouts keep teaching it?",
    "mix": "do verified and judged rewards help or hinder each other?",
    "objective": "does the objective's form matter: whole answers, or tokens?",
    "lift": "what does RL add that more fine-tuning for as long does not?",
}
RECIPE_VERBS = ("run", "pretrain", "sft", "rl", "eval", "count", "plan", "synthesize")

Verb = Callable[[argparse.Namespace], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code; all but 0 come with one line about why.

    0: done. 1: training diverged. 2: a mistake of the user's. 130: Ctrl-C.
    """
    args = _parse(sys.argv[1:] if argv is None else list(argv))
    verb: Verb = args.verb
    try:
        if "RANK" in os.environ:
            _among_ranks(verb, args)
        else:
            verb(args)
    except KeyboardInterrupt:
        print("\nopenk2: interrupted; the same command again goes on from there", file=sys.stderr)
        return INTERRUPTED
    except FloatingPointError as error:  # train.step.NonFiniteLossError, which would cost an import of torch
        print(f"openk2: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"openk2: {_said_by_system(error)}", file=sys.stderr)
        return USER_ERROR
    except ValueError as error:
        print(f"openk2: {' '.join(str(error).split())}", file=sys.stderr)
        return USER_ERROR
    return 0


def _among_ranks(verb: Verb, args: argparse.Namespace) -> None:
    """Under ``torchrun``, rank 0 runs the verb and the others work for it."""
    from openk2.train import ranks

    if not ranks.launched():
        verb(args)
        return
    with ranks.job() as leads:
        if leads:
            verb(args)


def _said_by_system(error: OSError) -> str:
    if error.strerror is None:  # raised by us, with a whole sentence
        return " ".join(str(error).split())
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


# ---------------------------------------------------------------------------------------------
# What can be said
# ---------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        self.exit(USER_ERROR, f"{self.prog}: {message}; {self.prog} --help says more\n")


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="openk2", description="Kimi K2's training system: text in, an agent out.")
    parser.add_argument("--version", action="version", version=f"openk2 {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    for name, verb, words in (
        ("run", run, "every stage from text to report; goes on where it stopped"),
        ("pretrain", run_stage, "the data and pre-training stages alone"),
        ("sft", run_stage, "the fine-tuning stage alone"),
        ("rl", run_stage, "the reinforcement-learning stage alone"),
        ("eval", run_stage, "the evaluation stage alone"),
    ):
        sub = _recipe_verb(verbs, name, verb, words)
        sub.add_argument("--run", type=Path, metavar="DIR", help="the run's folder (default: runs/NAME)")
    _recipe_verb(verbs, "count", count, "parameters and FLOPs of a recipe's model, beside the paper's figures")
    sub = _recipe_verb(verbs, "plan", plan, "what a recipe's model takes on each GPU of a cluster")
    for name, ways in (("pipeline", 16), ("expert", 16), ("data", 8)):
        sub.add_argument(
            f"--{name}", type=int, default=ways, metavar="N", help=f"{name}-parallel ways (default {ways})"
        )

    words = "long tool trajectories over evolved apps, each verified; goes on where it stopped"
    sub = _recipe_verb(verbs, "synthesize", synthesize, words)
    sub.add_argument("--run", type=Path, metavar="DIR", help="where they go (default: runs/NAME)")

    sub = verbs.add_parser("chat", help="talk to a run's agent, with a live world behind its tools")
    sub.set_defaults(verb=chat, stage="chat")
    sub.add_argument("folder", type=Path, metavar="RUN", help="a run's folder, as in runs/nano")
    sub = verbs.add_parser(
        "export", help="write a run's model in Hugging Face layout, or trajectories for other libraries"
    )
    sub.set_defaults(verb=export, stage="export")
    sub.add_argument("path", type=Path, metavar="RUN|TRAJECTORIES", help="a run's folder, or trajectories (with --to)")
    sub.add_argument("out", type=Path, metavar="DIR", help="the folder to make")
    sub.add_argument(
        "--to", choices=["openai", "trl", "llamafactory", "parquet"], help="whose format to write trajectories in"
    )

    sub = verbs.add_parser("view", help="browse, filter and read trajectories in a page, or print one")
    sub.set_defaults(verb=view, stage="view")
    sub.add_argument(
        "path", type=Path, metavar="PATH", help="a .jsonl or .parquet file, or a folder with trajectories.jsonl"
    )
    sub.add_argument("--port", type=int, default=0, metavar="N", help="port on this machine (default: any free one)")
    sub.add_argument("--text", nargs="?", const="", metavar="ID", help="print one in the terminal (default: the first)")

    sub = verbs.add_parser(
        "watch", help="look inside a run's reinforcement learning in a page, while it goes on or after"
    )
    sub.set_defaults(verb=watch, stage="watch")
    sub.add_argument("folder", type=Path, metavar="RUN", help="a run's folder, as in runs/nano")
    sub.add_argument("--port", type=int, default=0, metavar="N", help="port on this machine (default: any free one)")

    sub = verbs.add_parser("envs", help="serve environments of the gym, for rollouts of other processes")
    sub.set_defaults(verb=envs, stage="envs")
    sub.add_argument("families", nargs="+", metavar="FAMILY", help="families of tasks; openk2 play lists them")
    sub.add_argument("--recipe", type=Path, metavar="RECIPE", help="whose tool worlds (default: the built-in ones)")
    sub.add_argument("--port", type=int, default=8100, metavar="N", help="port on this machine; 0: any free one")

    sub = verbs.add_parser("play", help="look at the gym's tasks, export them, or play them in the terminal")
    sub.set_defaults(verb=play, stage="play")
    sub.add_argument("family", nargs="?", metavar="FAMILY", help="a family of tasks (without one: which there are)")
    sub.add_argument("--split", default="heldout", help="whose tasks (default heldout)")
    sub.add_argument("--list", type=int, nargs="?", const=20, metavar="N", help="list the first N tasks (default 20)")
    sub.add_argument("--export", type=Path, metavar="FILE", help="write all tasks to a .jsonl file")
    sub.add_argument("--task", metavar="ID", help="play this one")
    sub.add_argument("--sample", type=int, metavar="N", help="play N tasks (default: until you leave)")
    sub.add_argument("--agent", metavar="NAME", help="watch gold, random, null, … instead of playing")
    sub.add_argument("--seed", type=int, default=0, help="order of the tasks, and what is drawn in them (default 0)")

    sub = verbs.add_parser("serve", help="answer over HTTP, in OpenAI's words, with a page to talk to the model")
    sub.set_defaults(verb=serve, stage="serve")
    sub.add_argument(
        "folder", type=Path, metavar="RUN|HF_DIR", help="a run's folder, or a model in Hugging Face layout"
    )
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)")
    sub.add_argument("--port", type=int, default=8000, metavar="N", help="port; 0 takes any free one (default 8000)")
    sub.add_argument("--api-key-file", type=Path, metavar="FILE", help="a file with the key clients have to send")
    for name, value, words in (
        ("max-rows", 32, "answers sampled at once"),
        ("max-context", None, "tokens of a prompt and its answer (default: the model's, at most 8192)"),
        ("cache-tokens", None, "tokens cached in all (default: room for as many full contexts as rows)"),
        ("max-queue", 256, "answers that may wait; more get 429"),
        ("request-seconds", 600, "time to answer; later gets 504"),
        ("drain-seconds", 60, "time that running answers get after SIGTERM"),
    ):
        default = "" if value is None else f" (default {value})"
        sub.add_argument(f"--{name}", type=int, default=value, metavar="N", help=words + default)

    sub = verbs.add_parser("study", help="measure a claim of the paper again, at a size that a laptop holds")
    studies = sub.add_subparsers(title="studies", metavar="NAME", required=True)
    sub = _study(studies, "stability", study_stability, "does QK-Clip keep attention logits bounded?")
    sub.add_argument("--steps", type=int, default=220, metavar="N", help="steps of a run (default 220)")
    sub = _study(studies, "synthesis", study_synthesis, "what of tool-data synthesis makes a better agent?")
    _study_recipe(sub, "recipes/study-synthesis.toml")
    for name, words in RL_STUDIES.items():
        sub = _study(studies, f"rl-{name}", study_rl, words, Path("runs") / "study-rl")
        sub.set_defaults(study=name)
        _study_recipe(sub, "recipes/study-rl.toml")
        sub.add_argument("--steps", type=int, metavar="N", help="steps of a run (default: the study's)")

    if argv[1:] in (["-h"], ["--help"]) and argv[0] in RECIPE_VERBS:
        verbs.choices[argv[0]].print_help()  # the verb's own; behind a recipe, --help shows the recipe's flags
        sys.exit(0)
    args, flags = parser.parse_known_args(argv)
    if flags and not hasattr(args, "recipe"):
        parser.error(f"unknown argument: {flags[0]}")
    args.flags = flags
    return args


def _recipe_verb(
    verbs: argparse._SubParsersAction[_Parser], name: str, verb: Verb, words: str
) -> argparse.ArgumentParser:
    words_below = "Any key of the recipe is a flag: --seed 1. All of them, with values: put --help after the recipe."
    sub = verbs.add_parser(name, help=words, description=words, epilog=words_below, add_help=False, allow_abbrev=False)
    sub.set_defaults(verb=verb, stage=name)
    sub.add_argument("recipe", type=Path, help="a recipe file, as in recipes/nano.toml")
    return sub


def _study(
    studies: argparse._SubParsersAction[_Parser], name: str, verb: Verb, words: str, where: Path | None = None
) -> argparse.ArgumentParser:
    sub = studies.add_parser(name, help=words, description=words, allow_abbrev=False)
    sub.set_defaults(verb=verb, stage=f"study {name}")
    where = where or Path("runs") / f"study-{name}"
    sub.add_argument(
        "--out", type=Path, default=where, metavar="DIR", help=f"where runs and report go (default {where})"
    )
    sub.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each arm, at least 2 (default 3)")
    return sub


def _study_recipe(sub: argparse.ArgumentParser, path: str) -> None:
    words = f"a recipe (default {path}); any key of it is a flag: --sft.steps 300"
    sub.add_argument("--recipe", type=Path, default=Path(path), metavar="FILE", help=words)


def _recipe(args: argparse.Namespace) -> Recipe:
    from openk2.recipe import Recipe, override

    recipe = Recipe.load(args.recipe)
    return override(recipe, args.flags, prog=f"openk2 {args.stage} {args.recipe}")


# ---------------------------------------------------------------------------------------------
# The verbs
# ---------------------------------------------------------------------------------------------


def run(args: argparse.Namespace) -> None:
    """All stages."""
    recipe = _recipe(args)
    from openk2 import pipeline

    pipeline.run(recipe, args.run or Path("runs") / recipe.name)


def run_stage(args: argparse.Namespace) -> None:
    """One stage."""
    recipe = _recipe(args)
    from openk2 import pipeline

    pipeline.run_stage(args.stage, recipe, args.run or Path("runs") / recipe.name)


def chat(args: argparse.Namespace) -> None:
    """A conversation in the terminal."""
    from openk2 import pipeline

    pipeline.chat(args.folder)


def export(args: argparse.Namespace) -> None:
    """The model, or trajectories, for others."""
    if args.to is not None:
        from openk2.data.export.write import write_export

        print(write_export(args.path, args.out, args.to))
        return
    from openk2 import pipeline

    pipeline.export(args.path, args.out)


def view(args: argparse.Namespace) -> None:
    """Trajectories, to look at."""
    from openk2.view.trajectories import serve as viewing

    if args.text is not None:
        viewing.show_text(args.path, args.text or None)
    else:
        viewing.show(args.path, args.port, lambda line: print(line, flush=True))


def watch(args: argparse.Namespace) -> None:
    """Reinforcement learning, from inside."""
    from openk2.view.rl.serve import watch as watching

    watching(args.folder, args.port, lambda line: print(line, flush=True))


def envs(args: argparse.Namespace) -> None:
    """Environments, over HTTP."""
    from openk2 import recipe
    from openk2.gym.families import make_env
    from openk2.gym.service.config import ServiceConfig
    from openk2.gym.service.serve import run
    from openk2.worlds.config import WorldsConfig

    worlds = WorldsConfig() if args.recipe is None else recipe.Recipe.load(args.recipe).worlds
    say = functools.partial(print, flush=True)
    run(functools.partial(make_env, worlds=worlds), args.families, ServiceConfig(port=args.port), say)


def serve(args: argparse.Namespace) -> None:
    """The model, over HTTP."""
    key = None if args.api_key_file is None else args.api_key_file.read_text(encoding="utf-8").strip()
    if key == "":
        raise ValueError(f"{args.api_key_file} is empty: it should hold the key")
    from openk2 import pipeline
    from openk2.engine.server.config import ServerConfig

    limits = {name: getattr(args, name) for name in ("max_queue", "request_seconds", "drain_seconds")}
    config = ServerConfig(host=args.host, port=args.port, api_key=key, **limits)
    engine = {name: getattr(args, name) for name in ("max_rows", "max_context", "cache_tokens")}
    pipeline.serve(args.folder, config, **engine)


def synthesize(args: argparse.Namespace) -> None:
    """Long tool trajectories."""
    from openk2.pipeline import synthesize as synthesis

    config = synthesis.load(args.recipe, args.flags)
    synthesis.synthesize(config, args.run or Path("runs") / config.name)


def play(args: argparse.Namespace) -> None:
    """The gym's tasks in the terminal."""
    from openk2.gym import catalogue
    from openk2.pipeline import play as playing

    if args.family is None:
        playing.list_families()
        return
    family = catalogue.family(args.family)
    if any(number is not None and number < 1 for number in (args.list, args.sample)):
        raise ValueError("--list and --sample take a number from 1 on")
    if args.list is not None:
        playing.list_tasks(family, args.split, args.list)
    elif args.export is not None:
        playing.export(family, args.split, args.export)
    else:
        sample = 1 if args.agent and not args.sample else args.sample
        playing.play(family, args.split, task_id=args.task, seed=args.seed, agent=args.agent, most=sample)


def study_stability(args: argparse.Namespace) -> None:
    """QK-Clip: runs of many arms, and what they show."""
    if args.steps < 1 or args.seeds < 2:
        raise ValueError(f"--steps {args.steps} --seeds {args.seeds}: it takes 1 step and 2 seeds at least")
    from openk2.jobs.provenance import provenance
    from openk2.studies import stability, stability_report

    results = stability.study(args.out, num_steps=args.steps, num_seeds=args.seeds)
    print(stability_report.write_report(results, args.out, provenance()))
    print(f"report: {args.out / 'study-stability.md'}")


def study_synthesis(args: argparse.Namespace) -> None:
    """Tool data: runs of many arms, and what they show."""
    if args.seeds < 2:
        raise ValueError(f"--seeds {args.seeds}: it takes 2 at least")
    recipe = _recipe(args)
    from openk2.jobs.provenance import provenance
    from openk2.studies import synthesis, synthesis_report

    results = synthesis.study(args.out, recipe, num_seeds=args.seeds)
    print(synthesis_report.write_report(results, args.out, provenance()))
    print(f"report: {args.out / 'study-synthesis.md'}")


def study_rl(args: argparse.Namespace) -> None:
    """Reinforcement learning: runs of a study's arms, and what they show."""
    if args.seeds < 2:
        raise ValueError(f"--seeds {args.seeds}: it takes 2 at least")
    if args.steps is not None and args.steps < 1:
        raise ValueError(f"--steps {args.steps}: it takes 1 at least")
    recipe = _recipe(args)
    from openk2.jobs.provenance import provenance
    from openk2.studies.rl import catalogue, report
    from openk2.studies.rl.run import study

    chosen = catalogue.study_of(args.study, args.steps)
    sft, results = study(args.out, recipe, chosen.plan, chosen.arms, num_seeds=args.seeds)
    print(report.write_report(chosen, sft, results, args.out, provenance()))
    print(f"report: {args.out / f'study-rl-{args.study}.md'}")


def count(args: argparse.Namespace) -> None:
    """Parameters and FLOPs."""
    recipe = _recipe(args)
    from rich.console import Console

    from openk2.model.count import count_table

    Console().print(count_table(recipe.model, recipe.name))


def plan(args: argparse.Namespace) -> None:
    """Memory, and the time of a weight update, on paper."""
    recipe = _recipe(args)
    from rich.console import Console

    from openk2.engine.weights.simulate import simulated_table
    from openk2.parallel import plan as planning

    layout = planning.Layout(args.pipeline, args.expert, args.data)
    Console().print(planning.table(planning.plan(planning.sizes_of(recipe.model), layout), recipe.name))
    Console().print(simulated_table(recipe.model, recipe.name))


if __name__ == "__main__":
    sys.exit(main())
