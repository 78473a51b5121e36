from __future__ import annotations

import _compat_pickle
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.intake.formats.identify import Format, check_file
from strongroom.intake.formats.pickle_globals import PLAIN_GLOBALS, TORCH_GLOBALS
from strongroom.intake.formats.pickles import check_pickle
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import BytesSource
from support.pickle_corpus import Sample, calling, corpus

_CORPUS = corpus()


def _check(sample: Sample) -> Format:
    return check_file(BytesSource(sample.data), sample.name, delivered={sample.name: len(sample.data)}).format


def test_there_are_twenty_one() -> None:
    assert len({one.name for one in _CORPUS}) == 21
    assert sum(one.benign for one in _CORPUS) == 2


@pytest.mark.parametrize("sample", [one for one in _CORPUS if not one.benign], ids=lambda one: one.name)
def test_what_would_run_is_refused(sample: Sample) -> None:
    with pytest.raises(IntakeRefusedError):
        _check(sample)


@pytest.mark.parametrize("sample", [one for one in _CORPUS if one.benign], ids=lambda one: one.name)
def test_what_would_run_nothing_is_let_in(sample: Sample) -> None:
    assert _check(sample) is Format.PICKLE


def test_a_judged_pickle_imports_nothing(tmp_path: Path) -> None:
    """In a process of its own: none of the modules that the samples name is imported by judging them."""
    for sample in _CORPUS:
        (tmp_path / sample.name).write_bytes(sample.data)
    program = (
        "import sys, pathlib\n"
        "from strongroom.intake.formats.identify import check_file\n"
        "from strongroom.intake.source import BytesSource\n"
        "named = {'pip', 'cProfile', 'runpy', 'torch', 'acme_models'}\n"
        "before = named & set(sys.modules)\n"
        "for file in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    data = file.read_bytes()\n"
        "    try: check_file(BytesSource(data), file.name, delivered={})\n"
        "    except Exception as error: assert type(error).__name__ == 'IntakeRefusedError', error\n"
        "assert named & set(sys.modules) == before\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=60, env=dict(os.environ))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"cos\nsystem\n.", Rule.PICKLE_GLOBAL),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", Rule.PICKLE_GLOBAL),
        (b"Vos\nVsystem\n\x93.", Rule.PICKLE_FORM),
        (b"\x80\x04\x8c\x08builtins\x8c\x08set.\x00pop\x93.", Rule.PICKLE_GLOBAL),
        (b"(ccollections\nOrderedDict\no.", None),
        (b"(icollections\nOrderedDict\n.", None),
        (b"(S'true'\nios\nsystem\n.", Rule.PICKLE_GLOBAL),
        (b"\x80\x02\x82\x01.", Rule.PICKLE_FORM),
        (b"\x80\x05\x97.", Rule.PICKLE_FORM),
        (b"Pkey\n.", Rule.PICKLE_FORM),
        (b"\x80\x02NQ.", Rule.PICKLE_CALL),
        (b"\x80\x02N)R.", Rule.PICKLE_CALL),
        (b"\x80\x02NN\x86N\x86NR.", Rule.PICKLE_CALL),
        (b"\x80\x02]}b.", Rule.PICKLE_CALL),
        (b"\x80\x02NNa.", Rule.PICKLE_CALL),
        (b"\x80\x02ccollections\nOrderedDict\n)R}b}b.", Rule.PICKLE_CALL),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.", Rule.PICKLE_CALL),
        (b"\x80\x02N.N.", Rule.PICKLE_TRAILING),
        (b"\x80\x02\x80\x02N.", Rule.PICKLE_FORM),
        (b"N\x80\x02.", Rule.PICKLE_FORM),
        (b"\x80\x06N.", Rule.PICKLE_FORM),
        (b"\x80\x02\x8c\x00.", Rule.PICKLE_FORM),
        (b"\x80\x04\x95\x01\x00\x00\x00\x00\x00\x00\x00\x8c\x00.", Rule.PICKLE_FORM),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", Rule.PICKLE_FORM),
        (b"\x80\x02Nq\x00Nq\x00.", Rule.PICKLE_FORM),
        (b"\x80\x02h\x00.", Rule.PICKLE_FORM),
        (b"\x80\x02NN.", Rule.PICKLE_FORM),
        (b"\x80\x02(N.", Rule.PICKLE_FORM),
        (b"\x80\x02.", Rule.PICKLE_FORM),
        (b"\x80\x02T\xff\xff\xff\xff.", Rule.PICKLE_FORM),
        (b"", Rule.PICKLE_FORM),
        (b"\xff.", Rule.PICKLE_FORM),
    ],
)
def test_each_way_to_a_call_is_watched(data: bytes, rule: Rule | None) -> None:
    if rule is None:
        check_pickle(BytesSource(data), "p")
        return
    with pytest.raises(IntakeRefusedError) as refused:
        check_pickle(BytesSource(data), "p")
    assert refused.value.rule is rule


def test_a_name_is_no_path_into_an_allowed_one() -> None:
    for name in ("OrderedDict.fromkeys", "OrderedDict.__class__", "abc.sys.modules"):
        with pytest.raises(IntakeRefusedError, match="isn't allowed"):
            check_pickle(BytesSource(calling("collections", name)), "p")


def test_old_names_lead_to_nothing_else() -> None:
    """Loaders rename globals of old protocols: what is allowed is renamed to itself, or to its newer name."""
    for module, name in TORCH_GLOBALS:
        renamed = _compat_pickle.NAME_MAPPING.get(
            (module, name), (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        )
        assert renamed in {(module, name), ("builtins", name)}
        assert renamed in TORCH_GLOBALS


def test_every_allowed_global_has_a_reason() -> None:
    assert all(one.reason for one in TORCH_GLOBALS.values())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_loaded_from_is_never_allowed(protocol: int) -> None:
    for thing in (
        eval,
        exec,
        __import__,
        getattr,
        open,
        print,
        type,
        object,
        os.system,
        subprocess.Popen,
        pickle.loads,
    ):
        data = pickle.dumps(thing, protocol)
        with pytest.raises(IntakeRefusedError, match="isn't allowed"):
            check_pickle(BytesSource(data), "p", allowed=TORCH_GLOBALS)
    assert ("builtins", "getattr") not in PLAIN_GLOBALS
