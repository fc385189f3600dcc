"""The key reference, docs/config.md: `python -m mlprun.config.reference > docs/config.md`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from omegaconf import MISSING

from mlprun.config.options import Option, default_of
from mlprun.config.schema import FOREIGN, Config
from mlprun.errors import shown

_HEAD = """\
# Configuration keys

Every key of mlprun's own, as it is typed on the command line: `mlprun epochs=20 trainer.grad_clip=1`. Written by
`python -m mlprun.config.reference` from [`mlprun/config/schema.py`](../mlprun/config/schema.py); do not edit.

- `mlprun --cfg job` prints the config of a command line, with the keys of the chosen model, optimizer and so on.
- {foreign}
  hold the arguments of a class. Their keys are those of the chosen YAML file in [`conf/`](../conf); `+` adds any other
  argument of the class: `+optim.foreach=true`.
- A duration is `10 epochs`, `500 steps` or `5%` of the run.
- `null` means that there is no value.
- `???` has no default: the chosen data set, model and so on fill it.
"""


def reference() -> str:
    """The reference, in Markdown: a table for each group of keys."""
    foreign = ", ".join(f"`{name}`" for name in FOREIGN)
    return "\n".join([_HEAD.format(foreign=foreign), *_tables(Config, "")])


def _tables(section: type, prefix: str) -> Iterator[str]:
    options = {spec: spec.metadata["option"] for spec in dataclasses.fields(section)}
    if prefix:
        yield f"## {prefix.rstrip('.')}\n\n{(section.__doc__ or '').strip()}\n"
    else:
        yield "## The run\n"
    yield "| key | default | unit | values | meaning |\n| --- | --- | --- | --- | --- |"
    for spec, option in options.items():
        if option.section is None or default_of(spec) is None:
            cells = f"`{prefix}{spec.name}`", f"`{_default(spec)}`", option.unit, values(spec), option.meaning
            yield f"| {' | '.join(cells)} |"
    yield ""
    for spec, option in options.items():
        if option.section is not None:
            yield from _tables(option.section, f"{prefix}{spec.name}.")


def _default(spec: dataclasses.Field[object]) -> str:
    default = default_of(spec)
    return str(MISSING) if default == MISSING else shown(default)


def values(spec: dataclasses.Field[object]) -> str:
    """The valid values of a key; empty: all of its type."""
    option: Option = spec.metadata["option"]
    if option.check is not None:
        return option.check.text
    return "`true`, `false`" if spec.type == "bool" else ""


def find_key(key: str) -> dataclasses.Field[object] | None:
    """The field of a dotted key of mlprun's own; None if it is none."""
    section: type | None = Config
    spec = None
    for name in key.split("."):
        fields = {spec.name: spec for spec in dataclasses.fields(section)} if section is not None else {}
        if (spec := fields.get(name)) is None:
            return None
        section = spec.metadata["option"].section
    return spec


if __name__ == "__main__":
    print(reference(), end="")
