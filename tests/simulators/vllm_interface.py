"""A stand-in for the part of vLLM that plugins know. It isn't vLLM: the same names and signatures, and little behind.

Modelled on vLLM 0.32's ``model_executor.model_loader``, ``transformers_utils.config``, ``tokenizers.registry`` and
``renderers.registry``, as documented for custom model loaders, configuration parsers and tokenizers. What it says about
vLLM is only what it was read off; tests/integration/test_sealed_in_vllm.py runs the real one where there is one.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer


@dataclass
class LoadConfig:
    """vllm.config.load.LoadConfig: two of its fields."""

    load_format: str = "auto"
    model_loader_extra_config: Any = field(default_factory=dict)


@dataclass
class ModelConfig:
    """vllm.config.ModelConfig: two of its fields."""

    model: str
    quantization: str | None = None


class BaseModelLoader(ABC):
    """vllm.model_executor.model_loader.BaseModelLoader."""

    def __init__(self, load_config: LoadConfig) -> None:
        self.load_config = load_config

    @abstractmethod
    def download_model(self, model_config: ModelConfig) -> None: ...

    @abstractmethod
    def load_weights(self, model: torch.nn.Module, model_config: ModelConfig) -> None: ...


class ConfigParserBase(ABC):
    """vllm.transformers_utils.config_parser_base.ConfigParserBase."""

    @abstractmethod
    def parse(
        self,
        model: str | Path,
        trust_remote_code: bool,  # noqa: FBT001 - vLLM's signature
        revision: str | None = None,
        code_revision: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], Any]: ...


class HFConfigParser(ConfigParserBase):
    """vllm.transformers_utils.config.HFConfigParser."""

    def parse(
        self,
        model: str | Path,
        trust_remote_code: bool,  # noqa: FBT001 - vLLM's signature
        revision: str | None = None,
        code_revision: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], Any]:
        kwargs.pop("hf_overrides", None)
        found = AutoConfig.from_pretrained(
            model, trust_remote_code=trust_remote_code, revision=revision, code_revision=code_revision, **kwargs
        )
        return json.loads((Path(model) / "config.json").read_bytes()), found


class CachedHfTokenizer:
    """vllm.tokenizers.hf.CachedHfTokenizer."""

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | Path,
        *args: Any,
        trust_remote_code: bool = False,
        revision: str | None = None,
        download_dir: str | None = None,
        **kwargs: Any,
    ) -> Any:
        return AutoTokenizer.from_pretrained(
            path_or_repo_id,
            *args,
            trust_remote_code=trust_remote_code,
            revision=revision,
            cache_dir=download_dir,
            **kwargs,
        )


class TokenizerRegistry:
    """vllm.tokenizers.registry.TokenizerRegistry."""

    def __init__(self) -> None:
        self.tokenizers = {"hf": (__name__, "CachedHfTokenizer")}

    def register(self, tokenizer_mode: str, module: str, class_name: str) -> None:
        self.tokenizers[tokenizer_mode] = (module, class_name)

    def load_tokenizer_cls(self, tokenizer_mode: str) -> Any:
        module, name = self.tokenizers[tokenizer_mode]
        return getattr(importlib.import_module(module), name)


class RendererRegistry:
    """vllm.renderers.registry.RendererRegistry."""

    def __init__(self) -> None:
        self.renderers = {"hf": ("vllm.renderers.hf", "HfRenderer")}

    def register(self, renderer_mode: str, module: str, class_name: str) -> None:
        self.renderers[renderer_mode] = (module, class_name)


class Interface:
    """One process's vLLM: what was registered with it."""

    def __init__(self) -> None:
        self.loaders: dict[str, type[BaseModelLoader]] = {}
        self.parsers: dict[str, type[ConfigParserBase]] = {"hf": HFConfigParser}
        self.tokenizers, self.renderers = TokenizerRegistry(), RendererRegistry()

    def register_model_loader(self, load_format: str) -> Callable[[type[BaseModelLoader]], type[BaseModelLoader]]:
        def wrapper(loader: type[BaseModelLoader]) -> type[BaseModelLoader]:
            assert issubclass(loader, BaseModelLoader)
            self.loaders[load_format] = loader
            return loader

        return wrapper

    def register_config_parser(self, config_format: str) -> Callable[[type[ConfigParserBase]], type[ConfigParserBase]]:
        def wrapper(parser: type[ConfigParserBase]) -> type[ConfigParserBase]:
            assert issubclass(parser, ConfigParserBase)
            self.parsers[config_format] = parser
            return parser

        return wrapper

    def get_model_loader(self, load_config: LoadConfig) -> BaseModelLoader:
        return self.loaders[load_config.load_format](load_config)

    def get_config_parser(self, config_format: str) -> ConfigParserBase:
        return self.parsers[config_format]()

    def modules(self) -> dict[str, ModuleType]:
        """Return what ``sys.modules`` must have."""
        contents: dict[str, dict[str, Any]] = {
            "vllm.model_executor.model_loader": {
                "BaseModelLoader": BaseModelLoader,
                "register_model_loader": self.register_model_loader,
                "get_model_loader": self.get_model_loader,
            },
            "vllm.transformers_utils.config": {
                "register_config_parser": self.register_config_parser,
                "get_config_parser": self.get_config_parser,
            },
            "vllm.transformers_utils.config_parser_base": {"ConfigParserBase": ConfigParserBase},
            "vllm.tokenizers.registry": {"TokenizerRegistry": self.tokenizers},
            "vllm.renderers.registry": {"RENDERER_REGISTRY": self.renderers},
        }
        found = {}
        for name, members in contents.items():
            found[name] = ModuleType(name)
            vars(found[name]).update(members)
        return found


class Model(torch.nn.Module):  # type: ignore[misc]  # torch has no types for this
    """A model as vLLM's are: it takes weights by name from an iterable, and tells which of its parameters it set."""

    def __init__(self, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in parameters.items():
            owner = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(owner, part):
                    owner.add_module(part, torch.nn.Module())
                owner = getattr(owner, part)
            owner.register_parameter(last, torch.nn.Parameter(torch.zeros_like(tensor)))

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        mine, loaded = dict(self.named_parameters()), set()
        for name, tensor in weights:
            if name in mine:
                mine[name].data.copy_(tensor)
                loaded.add(name)
        return loaded
