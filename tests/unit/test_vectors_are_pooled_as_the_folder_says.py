"""How a model makes its vectors is read from its folder; what this engine doesn't do exactly so is refused."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.enclave.engine.pooling import MAX_CONFIG, EncoderForm, Pooling, read_form

FIRST: Final = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
SECOND: Final = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
THIRD: Final = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
DENSE: Final = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
MEAN: Final = {"word_embedding_dimension": 384, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def form(modules: Any, pooling: Any = MEAN, settings: Any = None) -> EncoderForm:
    files = {"modules.json": modules, "1_Pooling/config.json": pooling, "sentence_bert_config.json": settings}
    return read_form(lambda name: None if files.get(name) is None else json.dumps(files[name]).encode())


def test_the_usual_forms() -> None:
    assert form([FIRST, SECOND, THIRD], settings={"max_seq_length": 256, "do_lower_case": False}) == EncoderForm(
        pooling=Pooling.MEAN, normalised=True, longest=256
    )
    assert form([FIRST, SECOND]) == EncoderForm(pooling=Pooling.MEAN, normalised=False, longest=None)
    assert form([FIRST, SECOND], {"pooling_mode_cls_token": True}).pooling is Pooling.FIRST
    assert form([FIRST, SECOND], {"pooling_mode_lasttoken": True}).pooling is Pooling.LAST
    assert form([FIRST, SECOND], {"pooling_mode": "cls"}).pooling is Pooling.FIRST


@pytest.mark.parametrize(
    ("modules", "pooling", "settings"),
    [
        (None, MEAN, None),
        ({}, MEAN, None),
        ([], MEAN, None),
        ([FIRST], MEAN, None),
        ([SECOND, FIRST], MEAN, None),
        ([FIRST, SECOND, DENSE], MEAN, None),
        ([FIRST, SECOND, DENSE, THIRD], MEAN, None),
        ([FIRST, SECOND, "Normalize"], MEAN, None),
        ([FIRST | {"path": "0_Transformer"}, SECOND], MEAN, None),
        ([FIRST, SECOND | {"path": "../1_Pooling"}], MEAN, None),
        ([FIRST, SECOND | {"path": ""}], MEAN, None),
        ([FIRST, SECOND | {"path": 1}], MEAN, None),
        ([FIRST, SECOND], None, None),
        ([FIRST, SECOND], [], None),
        ([FIRST, SECOND], {}, None),
        ([FIRST, SECOND], MEAN | {"pooling_mode_cls_token": True}, None),
        ([FIRST, SECOND], {"pooling_mode_max_tokens": True}, None),
        ([FIRST, SECOND], {"pooling_mode": "weightedmean"}, None),
        ([FIRST, SECOND], MEAN, []),
        ([FIRST, SECOND], MEAN, {"max_seq_length": "256"}),
        ([FIRST, SECOND], MEAN, {"max_seq_length": 0}),
        ([FIRST, SECOND], MEAN, {"max_seq_length": True}),
        ([FIRST, SECOND], MEAN | {"more": "x" * MAX_CONFIG}, None),
    ],
)
def test_what_is_not_done_here_is_refused(modules: Any, pooling: Any, settings: Any) -> None:
    with pytest.raises(MalformedError):
        form(modules, pooling, settings)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "path", "pooling_mode", "max_seq_length"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, JSON, JSON, st.binary(max_size=40))
def test_any_files_are_read_or_refused(modules: Any, pooling: Any, settings: Any, noise: bytes) -> None:
    for given_modules in (modules, [FIRST, SECOND, modules], [FIRST, SECOND]):
        try:
            form(given_modules, pooling, settings)
        except StrongroomError:
            continue
    with pytest.raises(MalformedError):
        read_form(lambda _name: b"\xff" + noise)
