"""``strongroom enclave serve canaries``: what a plaintext model answers, recorded to be sealed with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import read_file, require_new
from strongroom.cli.gateway import engine_option
from strongroom.core.errors import UsageError
from strongroom.enclave.engine.adapters.numpy_llama import NumpyLlama
from strongroom.enclave.engine.adapters.transformers_encoder import TransformersEncoder
from strongroom.enclave.engine.adapters.transformers_model import open_model
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.engine.canaries import record_tokens, record_vector
from strongroom.enclave.engine.schedule import Model
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.sealing.canary import MAX_CANARIES, Canary, canaries_to_bytes

_MAX_QUESTIONS: Final = 1 << 20
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("canaries")
@click.argument("directory", type=_FOLDER)
@click.option(
    "--questions",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="A text file with a question in each line, at most 32.",
)
@click.option("--tokenizer", type=_FOLDER, help="Folder of the tokenizer, if it isn't the model's own.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to make.")
@engine_option
def canaries(directory: Path, questions: Path, tokenizer: Path | None, out: Path, engine: str) -> None:
    """Record what the plaintext model in DIRECTORY answers, for `strongroom seal --canaries`.

    Of a model that generates: the likeliest tokens, 16 at most. Of an encoder: the vector. They are sealed with the
    model; keep the file as you keep the weights, or delete it.
    """
    asked = read_file(questions, most=_MAX_QUESTIONS).decode(errors="replace").splitlines()
    asked = [line for line in asked if line.strip()]
    if not 1 <= len(asked) <= MAX_CANARIES:
        raise UsageError(f"`{questions.name}` has {len(asked)} questions; 1 to {MAX_CANARIES} are recorded")
    public = PublicTokenizer.folder(tokenizer or directory)
    # Said first: the model takes a while.
    require_new(out)
    model = NumpyLlama(directory) if BuiltIn(engine) is BuiltIn.NUMPY else open_model(directory)
    made = [_record(model, f"question {n}", public.encode(text)) for n, text in enumerate(asked, 1)]
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(canaries_to_bytes(made))
    click.echo(f"recorded {len(made)} canaries in {out}")


def _record(model: Model, name: str, given: tuple[int, ...]) -> Canary:
    if isinstance(model, TransformersEncoder):
        return record_vector(model, name, given, model.values)
    return record_tokens(model, name, given)
