"""The scenarios that come with the program, and how one is found by name or file.

They are YAML files in ``drills/``: to make one of your own, copy one and change it.
"""

from pathlib import Path

from batch_cancel.core.errors import UsageError
from batch_cancel.core.wording import did_you_mean, quoted
from batch_cancel.simulator.scenario_file import Scenario, load_scenario, parse_scenario

_FOLDER = Path(__file__).parent / "drills"


def scenario_names() -> tuple[str, ...]:
    """The names of the built-in scenarios."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def scenario_text(name: str) -> str:
    """A built-in scenario as the YAML that it is."""
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def find_scenario(name_or_file: str) -> Scenario:
    """A built-in scenario by its name, any other by its file.

    Raises:
        UsageError: there is neither such a name nor such a file, or the file is wrong.
    """
    names = scenario_names()
    if name_or_file in names:
        return parse_scenario(scenario_text(name_or_file).encode(), name_or_file)
    looks_like_a_file = "/" in name_or_file or name_or_file.endswith((".yaml", ".yml")) or Path(name_or_file).is_file()
    if not looks_like_a_file:
        near = did_you_mean(name_or_file, names)
        raise UsageError(f"no scenario {quoted(name_or_file)}{near} (choose from {', '.join(names)}, or give a file)")
    return load_scenario(name_or_file)
