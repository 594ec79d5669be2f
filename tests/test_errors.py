"""The exception tree: every error says what is wrong and what to do, also after a trip through a worker process."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from mace_ft_bench import errors
from mace_ft_bench.errors import MaceFtBenchError, suggestion

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MaceFtBenchError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_ends_with_its_fix_and_survives_pickling(kind):
    error = kind("It [is] broken: é.", fix="mend it.")
    for copied in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own bytes
        assert type(copied) is kind
        assert (copied.message, copied.fix) == ("It [is] broken: é.", "mend it.")
        assert str(copied) == "It [is] broken: é. To fix: mend it."


@pytest.mark.parametrize("kind", KINDS)
def test_the_docstring_draws_every_error_below_its_parent(kind):
    lines = errors.__doc__.splitlines()
    row = next(number for number, line in enumerate(lines) if kind.__name__ in line.replace("─", " ").split())
    parent = next(base for base in kind.__mro__[1:] if base in KINDS or base is Exception)
    if parent is not Exception:
        above = [line for line in lines[:row] if line.find(line.lstrip("│├└─ ")) < lines[row].find(kind.__name__)]
        assert parent.__name__ in above[-1]


def test_a_fix_is_required():
    with pytest.raises(TypeError, match="fix"):
        MaceFtBenchError("It is broken.")


def test_builtin_handlers_catch_our_errors():
    for kind, builtin in [
        (errors.CardError, ValueError),
        (errors.UnknownNameError, LookupError),
        (errors.UnsupportedElementError, ValueError),
        (errors.MissingDependencyError, ImportError),
    ]:
        assert issubclass(kind, builtin)


def test_suggestions_name_the_nearest_and_all():
    assert suggestion("moft", ["mo-ft", "chgnet"]) == 'did you mean "mo-ft"? Known: chgnet, mo-ft.'
    assert suggestion("zzzzzz", ["mo-ft", "chgnet"]) == "use one of: chgnet, mo-ft."
    assert suggestion("x", []) == "use one of: (none)."
