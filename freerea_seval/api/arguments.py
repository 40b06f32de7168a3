"""From what a user may pass, such as a path, a name or an object, to the object that is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freerea_patch import InputError, SearchSpace
from freerea_seval.files import temporary_folder
from freerea_seval.progress import Progress, terminal_progress

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor, nn

    from freerea_seval.config import Config
    from freerea_seval.config.networks import Argument

    #: Shape of one tensor: ``"1,3,32,32"``, ``"1,16:int64"`` or ``(1, 3, 32, 32)``; or the tensor itself.
    Shape = str | Sequence[int] | Tensor
    #: One input: a tensor; or a list of tensors, also as ``"[3,64,64;3,32,32]"``.
    Input = Shape | Sequence[Shape]
    #: The inputs of a network, by position or by name; one tensor may stand for itself.
    Inputs = Shape | Sequence[Input] | Mapping[str, Input]


def progress_bars(wanted: bool) -> Progress:
    """Return the progress of the terminal if it is wanted, otherwise one that shows nothing."""
    return terminal_progress() if wanted else Progress()


def prepare_torch() -> None:
    """Import torch with the default settings.

    Raises:
        InputError: torch is not installed.
    """
    from freerea_seval.config import LiveSettings
    from freerea_seval.sources.live import prepare_torch as prepare

    prepare(LiveSettings())


def as_space(space: str | Mapping[str, Any] | SearchSpace) -> SearchSpace:
    """Return a search space, given itself, its name and options as a mapping, or a text as :func:`space_spec` takes it.

    Raises:
        InputError: an unknown name or option; see :func:`freerea_patch.spaces.make_space`. Or a config that is wrong.
    """
    from freerea_seval.config import make_space

    named, base = space_spec(space) if isinstance(space, str) else (space, Path())
    return make_space(named, base) if isinstance(named, (str, Mapping)) else named


def space_spec(space: str) -> tuple[str | Mapping[str, Any], Path]:
    """Return a space as a config has it, and the folder that its paths start from.

    Args:
        space: a name; the text of a mapping such as ``{name: gpt, width: 128}``; or ``FILE.yaml``, a search's config.

    Raises:
        InputError: the text is no such mapping, or the config is wrong.
    """
    if space.startswith("{"):
        from freerea_seval.config import parse_yaml

        options = parse_yaml(space, f"space {space!r:.200}")
        named = options.get("name", options.get("transformers"))
        if not isinstance(named, (str, dict)) or not all(isinstance(option, str) for option in options):
            raise InputError(f"space {space!r:.200}: expected a name, or options such as '{{name: gpt, width: 128}}'")
        return dict(options), Path()
    if not space.endswith((".yaml", ".yml")):
        return space, Path()
    config, base, _ = as_config(space)
    return config.whole_space, base


def as_config(
    config: str | Path | Mapping[str, Any] | Config | None, overrides: Sequence[str] = ()
) -> tuple[Config, Path, str]:
    """Return a config, the folder that its relative paths start from, and a name for its run.

    Args:
        config: a YAML file, whose paths are relative to its folder; or the same content as a mapping or
            :class:`~freerea_seval.config.schema.Config`, whose paths are relative to the working folder; None for the
            default search.
        overrides: ``key.to.value=YAML``, such as ``budget.evaluations=50``.

    Raises:
        InputError: the config or an override is wrong.
    """
    from yaml import safe_load

    from freerea_seval.config import DEFAULT, Config, check_config, dump_config, load_config

    if config is None:
        return load_config(DEFAULT, overrides), Path(), DEFAULT.stem
    if isinstance(config, (str, Path)):
        path = Path(config)
        return load_config(path, overrides), path.parent, path.stem
    checked = config if isinstance(config, Config) else check_config(dict(config), "config")
    if overrides:
        checked = check_config(safe_load(dump_config(checked)), "config", overrides)
    return checked, Path(), "search"


@contextmanager
def as_table(table: str | Path | DataFrame) -> Iterator[Path]:
    """Return the path of a table, which a DataFrame has while the context is open."""
    if isinstance(table, (str, Path)):
        yield Path(table)
        return
    from freerea_seval.tables import to_csv

    with temporary_folder() as folder:
        file = folder / "DataFrame.csv"
        file.write_text(to_csv(table), encoding="utf-8")
        try:
            yield file
        except InputError as error:  # the caller knows no such file
            raise InputError(str(error).replace(str(file), "the table")) from None


def as_tensors(inputs: Inputs | None, module: nn.Module, name: str) -> list[Argument] | dict[str, Argument]:
    """Return the inputs of a network: zeros of the given shapes, or the given tensors.

    Args:
        inputs: shapes or tensors, by position or by name; an input may be a list of these. None for those that an ONNX
            file states.
        module: the network; zeros are made on its device.
        name: of the network, for errors.

    Raises:
        InputError: there is no input, one of them is no shape, or shapes and tensors are mixed.
    """
    from torch import Tensor

    from freerea_seval.config import make_tensors
    from freerea_seval.strings import OnnxNetwork

    if inputs is None or (not isinstance(inputs, Tensor) and not len(inputs)):
        if isinstance(module, OnnxNetwork):
            return [*module.example_inputs()]
        raise InputError(f"{name}: give the shape of its input, such as --input 1,3,32,32")
    if isinstance(inputs, Mapping):
        named: list[tuple[str, Any]] = list(inputs.items())
    else:
        named = [("", value) for value in ([inputs] if _is_single(inputs) else inputs)]
    named = [(key, value if _is_single(value) else list(value)) for key, value in named]
    leaves = [leaf for _, value in named for leaf in ([value] if _is_single(value) else value)]
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if tensors and len(tensors) < len(leaves):
        raise InputError(f"{name}: expected all inputs as tensors or all as shapes, got both")
    if tensors:
        return dict(named) if isinstance(inputs, Mapping) else [value for _, value in named]
    return make_tensors([input_text(value, key) for key, value in named], module)


def input_text(value: Input, name: str = "") -> str:
    """Return an input as the command line has it: ``[name=]sizes[:dtype]``, in brackets for a list of tensors."""
    if isinstance(value, str):
        text = value
    elif _is_single(value):
        text = ",".join(map(str, value))
    else:
        text = f"[{';'.join(map(input_text, value))}]"
    return f"{name}={text}" if name else text


def _is_single(value: Any) -> bool:
    """Return whether an input is one tensor or its shape, not a list of them."""
    from torch import Tensor

    return isinstance(value, (str, Tensor)) or all(isinstance(size, int) for size in value)
