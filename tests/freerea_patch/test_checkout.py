"""Importing a checkout of FreeREA's code, and leaving no trace of it. The checkouts here are written by the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from freerea_patch import InputError
from freerea_patch.checkout import Checkout

#: As little as has the file names, the imports and the names of the public code.
FILES = {
    "analyzer.py": "from nas_utils import return_top_k\nclass Analyzer: pass\n",
    "datasets.py": "raise RuntimeError('never imported in a search')\n",
    "genotypes.py": "from nas_spaces import Exemplar\n",
    "metrics/__init__.py": "from thop import profile\n",
    "nas_spaces/__init__.py": (
        "from .base import Exemplar\nfrom .nats import NATSBench\nfrom .nasbench101 import NASBench101\n"
    ),
    "nas_spaces/base.py": "class Exemplar: pass\n",
    "nas_spaces/nats.py": (
        "from nats_bench import create\n"
        "from xautodl.models import get_cell_based_tiny_net\n"
        "class NATSBench: pass\n"
        "def build(): return get_cell_based_tiny_net({})\n"
    ),
    "nas_spaces/nasbench101.py": (
        "from ._nasbench101.original_api import api as n101api\n"
        "class NASBench101:\n    def __init__(self, path): self.api = n101api.NASBench(path)\n"
    ),
    "nas_spaces/_nasbench101/__init__.py": "",
    "nas_spaces/_nasbench101/original_api/__init__.py": "raise RuntimeError('needs an old protobuf')\n",
    "nas_utils.py": "from metrics import *\ndef return_top_k(exemplars, K=3): return exemplars[:K]\n",
    "our_baselines.py": "from nas_utils import *\nfrom genotypes import *\n",
    "pruning.py": "from nas_utils import *\n",
    "search.py": (
        "from pruning import return_top_k\nfrom nas_utils import *\nimport utils\n"
        "def search(api): return utils.NAME\ndef late():\n    import late_module\n    return late_module\n"
    ),
    "utils.py": "NAME = 'FreeREA'\n",
    "late_module.py": "",
}

OF_THE_CHECKOUT = {name.partition("/")[0].removesuffix(".py") for name in FILES} | {"thop", "xautodl"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "FreeREA" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "FreeREA"


@pytest.fixture(autouse=True)
def traces() -> Iterator[None]:
    """Every test here leaves sys.path and sys.modules as they were, whatever it tries."""
    path, modules = list(sys.path), dict(sys.modules)
    yield
    assert sys.path == path
    assert all(sys.modules[name] is module for name, module in modules.items())
    new = {name.partition(".")[0] for name in sys.modules.keys() - modules.keys()}
    assert new & OF_THE_CHECKOUT == set()


def test_inside_the_block_the_modules_are_those_of_the_checkout(checkout: Path) -> None:
    with Checkout(checkout) as code:
        for name in ("search", "nas_utils", "pruning", "our_baselines", "nas_spaces", "analyzer"):
            module = getattr(code, name)
            assert sys.modules[name] is module
            assert Path(module.__file__ or "").is_relative_to(checkout)
        assert code.search.search(None) == "FreeREA"


def test_modules_go_on_working_after_the_block(checkout: Path) -> None:
    with Checkout(checkout) as code:
        pass
    assert code.search.search(None) == "FreeREA"
    assert code.nas_utils.return_top_k([1, 2, 3], 2) == [1, 2]


def test_undoing_twice_is_undoing_once(checkout: Path) -> None:
    code = Checkout(checkout)
    with code:
        code.undo()
        assert "search" not in sys.modules
        assert str(checkout) not in sys.path
        sys.path.insert(0, str(checkout))  # somebody else's entry stays
        code.undo()
    assert sys.path.pop(0) == str(checkout)


def test_the_same_checkout_opens_again(checkout: Path) -> None:
    code = Checkout(checkout)
    with code:
        first = code.search
    with code:
        assert code.search is not first


def test_a_block_that_raises_is_undone(checkout: Path) -> None:
    with pytest.raises(KeyError), Checkout(checkout):
        raise KeyError


def test_modules_imported_late_go_as_well(checkout: Path) -> None:
    with Checkout(checkout) as code:
        assert code.search.late() is sys.modules["late_module"]


def test_modules_of_the_same_names_come_back(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("utils", "datasets", "datasets.arrow", "search")
    mine = {name: ModuleType(name) for name in names}
    for name, module in mine.items():
        monkeypatch.setitem(sys.modules, name, module)
    with Checkout(checkout) as code:
        assert code.search.search(None) == "FreeREA"
        assert "datasets.arrow" not in sys.modules
    assert all(sys.modules[name] is module for name, module in mine.items())


@pytest.mark.parametrize("name", ["search.py", "datasets.py", "metrics/__init__.py", "nas_spaces/__init__.py"])
def test_a_folder_that_lacks_a_file_is_refused(checkout: Path, name: str) -> None:
    (checkout / name).unlink()
    with pytest.raises(InputError) as error:
        Checkout(checkout)
    assert str(error.value) == (
        f"{checkout} is not a checkout of FreeREA: it has no {name};"
        " expected a clone of github.com/NiccoloCavagnero/FreeREA"
    )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a checkout of FreeREA: it has no analyzer\.py, datasets\.py, "):
        Checkout(tmp_path)


@pytest.mark.parametrize("name", ["search.py", "nas_utils.py", "nas_spaces/__init__.py"])
def test_a_checkout_that_cannot_be_imported_is_undone_and_says_why(checkout: Path, name: str) -> None:
    (checkout / name).write_text("import no_such_package\n")
    message = "cannot be imported .*No module named 'no_such_package'.*; it needs torch and pandas: pip install torch"
    with pytest.raises(InputError, match=message), Checkout(checkout):
        pass


def test_an_interrupt_while_importing_is_undone(checkout: Path) -> None:
    (checkout / "analyzer.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt), Checkout(checkout):
        pass


@pytest.mark.parametrize("name", ["search", "pruning", "nas_utils", "our_baselines"])
def test_code_that_ranks_elsewhere_is_refused(checkout: Path, name: str) -> None:
    path = checkout / f"{name}.py"
    path.write_text(path.read_text() + "\nreturn_top_k = None\n")
    with pytest.raises(InputError, match="has no return_top_k; expected commit 9c2a726"), Checkout(checkout):
        pass


def test_what_is_missing_is_stood_in_for_and_says_so_when_called(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freerea_patch.checkout.find_spec", lambda name: None)
    for name in [n for n in sys.modules if n.partition(".")[0] in ("nats_bench", "xautodl", "thop")]:
        monkeypatch.delitem(sys.modules, name)
    with Checkout(checkout) as code:
        assert {"nats_bench", "thop", "xautodl"} <= {*code.replaced}  # scipy may be imported already
        with pytest.raises(InputError, match=r"models\.get_cell_based_tiny_net, which is not installed"):
            sys.modules["nas_spaces.nats"].build()
        with pytest.raises(InputError, match=r"api, which is not imported, as it needs a protobuf of 2019"):
            code.nas_spaces.NASBench101("nasbench.tfrecord")
    assert "thop" not in sys.modules


def test_nothing_is_written_into_the_folder(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = sorted(checkout.rglob("*"))
    with Checkout(checkout) as code:
        assert code.search.late()
    assert sorted(checkout.rglob("*")) == before
    assert not sys.dont_write_bytecode


def test_what_is_installed_is_not_stood_in_for(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "thop.py").write_text("profile = 'the real one'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with Checkout(checkout) as code:
        assert code.nas_utils.profile == "the real one"
        assert "thop" not in code.replaced
    del sys.modules["thop"]


def test_a_checkout_is_a_context_manager_of_itself(checkout: Path) -> None:
    code = Checkout(checkout)
    with code as same:
        assert same is code
