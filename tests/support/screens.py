"""Services and models that judge text, real ones, on this machine."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from support.certificates import SERVER, Authority, Shape

Said = Callable[[dict[str, Any]], "tuple[int, bytes]"]


@dataclass
class Guard:
    """A classifier over HTTP."""

    url: str
    authority: Path | None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def ruling(name: str, category: str | None = None) -> tuple[int, bytes]:
    """Return an answer as it should be."""
    told = {"v": 1, "ruling": name} | ({"category": category} if category else {})
    return 200, json.dumps(told).encode()


def blocks(word: str, category: str = "jailbreak") -> Said:
    """Return a classifier that blocks what has a word in it."""
    return lambda asked: ruling("block", category) if word in asked["text"] else ruling("allow")


@contextmanager
def guard(said: Said, folder: Path | None = None, *, slow: float = 0.0, names: str = "") -> Iterator[Guard]:
    """Serve a classifier; over TLS if there is a `folder` for its authority's certificate."""
    made = Guard("", None)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made.asked.append(asked)
            made.headers.append({name.lower(): value for name, value in self.headers.items()})
            time.sleep(slow)
            status, body = said(asked)
            self.send_response(status)
            self.send_header("location", "/allow")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            # Whoever asked didn't wait.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                super().handle()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if folder is not None:
        now = int(time.time())
        authority = Authority.make("screens", now - 60)
        alternative = x509.DNSName(names) if names else x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate, key = authority.leaf(Shape(names=[alternative], at=now - 60, purposes=SERVER))
        (folder / "guard.pem").write_bytes(certificate.public_bytes(Encoding.PEM) + key)
        (folder / "authority.pem").write_bytes(authority.pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "guard.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made.authority = folder / "authority.pem"
    made.url = f"{'https' if folder else 'http'}://127.0.0.1:{server.server_address[1]}/judge"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def tiny_classifier(folder: Path, *, bad: str = "attack", longest: int = 32) -> Path:
    """Write a BERT that was trained, in a moment, to tell texts with the word ``bad`` in them from others.

    Its labels are `OK` and `BAD`; its vocabulary is ``bad`` and `w0` to `w49`.
    """
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    words = {name: n for n, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", bad, *(f"w{n}" for n in range(50))])}
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=longest,
    ).save_pretrained(folder)
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=longest,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label={0: "OK", 1: "BAD"},
        label2id={"OK": 0, "BAD": 1},
    )
    model = transformers.BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        tokens = torch.randint(5, len(words), (32, longest))
        tokens[:, 0], tokens[:, -1] = 2, 3
        labels = torch.arange(32) % 2
        places = torch.randint(1, longest - 1, (32,))
        rows = torch.arange(32)[labels == 1]
        tokens[rows, places[labels == 1]] = 4
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    return folder
