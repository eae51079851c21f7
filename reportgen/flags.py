"""One command line flag for each option, made from the table in ``config``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from reportgen.config import Config


def with_flags(
    command: Callable[..., None], options: Iterable[str], *others: inspect.Parameter
) -> Callable[..., None]:
    """Give a command ``others`` and one flag for each of ``options`` of Config."""
    own = [
        p
        for p in inspect.signature(command, eval_str=True).parameters.values()
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    flags = [*others, *(_flag(name) for name in options)]
    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return command


def flags_given(context: typer.Context) -> dict[str, Any]:
    """Return the options of Config that were given on the command line, by name."""
    return {
        name: value
        for name, value in context.params.items()
        if name in Config.model_fields and _given(context, name)
    }


def _given(context: typer.Context, name: str) -> bool:
    # By name: typer may bring its own copy of click, whose enumeration is another.
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(name: str) -> inspect.Parameter:
    field = Config.model_fields[name]
    switch = "--" + name.replace("_", "-")
    text = field.description or ""
    kind, choices = _kind(field.annotation)
    if choices:
        text = f"{text} One of: {', '.join(choices)}."
    if kind is bool:
        switch = f"{switch}/--no-{switch.removeprefix('--')}"
    option = typer.Option(switch, help=text, show_default=field.default not in ("", None))
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=Annotated[kind, option],
    )


def _kind(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the plain type that typer parses, and the choices where there are some.

    Limits and choices are checked by Config, so that every source of options is checked alike.
    """
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return str, parts
    if get_origin(annotation) is Annotated:
        return _kind(parts[0])
    if type(None) in parts:
        kind, choices = _kind(parts[0])
        return kind | None, choices
    return annotation, ()
