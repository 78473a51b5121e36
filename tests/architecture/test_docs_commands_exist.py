"""Every ``strongroom VERB`` that the documentation shows exists, with the options that it is shown with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from strongroom.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [page for page in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))) if page.is_file()]
TEMPLATES = sorted((CHECKOUT / "src" / "strongroom" / "console" / "templates").glob("*.html"))
TEMPLATED = re.compile(r"(?:<code>|command\(\")(strongroom [a-z -]+)")
BLOCK = re.compile(r"^```(?:sh|bash|console|shell|text)?\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(strongroom [^`\n]+)`")


def shown(text: str) -> list[str]:
    """Return the command lines of one page: in code blocks, continued lines joined, and in running text."""
    lines = []
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ").strip()
            lines += [words] if words.startswith("strongroom ") else []
    return lines + INLINE.findall(BLOCK.sub("", text))


def complaint(line: str) -> str:
    """Return what is wrong with one command line, or nothing."""
    words = [word for word in shlex.split(line, comments=True)[1:] if word not in {"...", "…"}]
    command: click.Command = main
    context = click.Context(main, info_name="strongroom")
    while words and isinstance(command, click.Group):
        if words[0].startswith("-"):
            word = words.pop(0).partition("=")[0]
            option = known_options(command, context).get(word)
            if option is None:
                return f"{command.name} has no option {word}"
            del words[: 0 if option.is_flag or option.count else 1]
            continue
        found = command.get_command(context, words[0])
        if found is None:
            return f"there is no command `{words[0]}`"
        command, context = found, click.Context(found, info_name=words.pop(0), parent=context)
    for word in words:
        if word in {"|", ">", "&&", ";", "&", "<", "2>", "--"}:
            break
        if word.startswith("--") and word.partition("=")[0] not in known_options(command, context):
            return f"`{context.command_path}` has no option {word}"
    return ""


def known_options(command: click.Command, context: click.Context) -> dict[str, click.Option]:
    """Return the options of a command by each of their spellings."""
    options = [parameter for parameter in command.get_params(context) if isinstance(parameter, click.Option)]
    return {name: option for option in options for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_each_command_shown_exists(page: Path) -> None:
    wrong = {line: complaint(line) for line in shown(page.read_text(encoding="utf-8"))}
    assert {line: said for line, said in wrong.items() if said} == {}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda page: page.name)
def test_each_command_that_a_page_of_the_console_shows_exists(template: Path) -> None:
    found = TEMPLATED.findall(template.read_text(encoding="utf-8"))
    assert {line: said for line in found if (said := complaint(line))} == {}


def test_the_check_sees_unknown_verbs_and_options() -> None:
    assert shown("```\n$ strongroom framework show SL3\n```\nand `strongroom nothing`") == [
        "strongroom framework show SL3",
        "strongroom nothing",
    ]
    assert complaint("strongroom framework show SL3 --json") == ""
    assert "no command" in complaint("strongroom nothing")
    assert "no option" in complaint("strongroom framework show SL3 --loud")
