"""Sigma 2.x YAML to packs, where packs are built. Needs the extra `rules` (pySigma, LGPL); nothing that runs does.

pySigma reads the YAML, resolves conditions and modifiers; its tree becomes :mod:`~strongroom.detection.expressions`.
What has no meaning here (placeholders, query fragments) is refused by name, never left out: half a rule would look like
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any as Anything
from typing import Final

import yaml

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.detection.expressions import All, Any, Expression, Match, Not, Test, check_test
from strongroom.detection.rules import (
    TEMPORAL,
    About,
    Certainty,
    Comparison,
    Correlation,
    CorrelationKind,
    GroupField,
    Rule,
    Severity,
    Threshold,
    rule_name,
)

EXTRA: Final = "rules"
_COMPARE: Final = {
    "LT": Match.BELOW,
    "LTE": Match.AT_MOST,
    "GT": Match.ABOVE,
    "GTE": Match.AT_LEAST,
}


class SigmaRuleError(MalformedError):
    """A Sigma rule can't be taken: it isn't one, or asks for what packs don't hold. The message names the rule."""

    code = "detection-sigma-rule"


def compile_rules(texts: Iterable[tuple[str, str]]) -> tuple[tuple[Rule, ...], tuple[Correlation, ...]]:
    """Turn Sigma documents into rules and correlations; ``texts`` are pairs of a name for errors and YAML.

    Two members of the YAML are our own: ``certainty`` (``hint`` if it isn't there) and ``playbook``.

    :raises SigmaRuleError: one of them can't be taken.
    :raises MissingExtraError: pySigma isn't installed.
    """
    collection = need("sigma.collection", extra=EXTRA).SigmaCollection
    errors = need("sigma.exceptions", extra=EXTRA)
    correlation = need("sigma.correlations", extra=EXTRA).SigmaCorrelationRule
    parts = []
    for name, text in texts:
        try:
            parts.append(collection.from_yaml(text, resolve_references=False))
        except (errors.SigmaError, yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise SigmaRuleError(f"`{name}` isn't a Sigma rule: {type(error).__name__}: {str(error)[:200]}") from None
    try:
        merged = collection.merge(parts, resolve_references=False)
        merged.resolve_rule_references()
        for rule in merged.rules:
            if isinstance(rule, correlation):
                rule.aliases.resolve_rule_references(merged)
    except errors.SigmaError as error:
        raise SigmaRuleError(f"a rule names another that isn't there: {str(error)[:200]}") from None
    reader = _Reader(errors, merged)
    rules = tuple(reader.rule(rule) for rule in merged.rules if not isinstance(rule, correlation))
    correlations = tuple(reader.correlation(rule) for rule in merged.rules if isinstance(rule, correlation))
    return rules, _in_order(correlations)


def _in_order(correlations: Sequence[Correlation]) -> tuple[Correlation, ...]:
    """Put each correlation behind those that it names."""
    left, done = {correlation.id: correlation for correlation in correlations}, list[Correlation]()
    while left:
        ready = [c for c in left.values() if not {*c.rules, *c.without} & left.keys()]
        if not ready:
            raise SigmaRuleError(f"correlations name each other in a circle: {', '.join(sorted(left)[:8])}")
        for correlation in ready:
            done.append(left.pop(correlation.id))
    return tuple(done)


def _id(rule: Anything) -> str:
    return rule_name(str(rule.name or rule.id).lower().replace(" ", "-"))


class _Reader:
    """Reads pySigma's objects. Each is looked up by its class's name: there is one of each."""

    def __init__(self, errors: Anything, collection: Anything) -> None:
        self._errors = errors
        # Sigma: a rule that correlations refer to speaks for itself only where they say `generate`.
        self._heard = {id(rule) for rule in collection.get_output_rules()}

    def rule(self, rule: Anything) -> Rule:
        """Return one rule; several conditions of one rule are joined by `or`, as Sigma says."""
        where = _id(rule)
        try:
            parsed = [condition.parse() for condition in rule.detection.parsed_condition]
        except self._errors.SigmaError as error:
            raise SigmaRuleError(f"rule `{where}`: {str(error)[:200]}") from None
        if not parsed or None in parsed:
            raise SigmaRuleError(f"rule `{where}` has an empty condition")
        parts = tuple(_expression(tree, where) for tree in parsed)
        return Rule(
            id=where,
            about=_about(rule),
            expression=parts[0] if len(parts) == 1 else Any(parts),
            silent=id(rule) not in self._heard,
        )

    def correlation(self, rule: Anything) -> Correlation:
        """Return one correlation."""
        where, condition = _id(rule), rule.condition
        kind = CorrelationKind(rule.type.name.lower())
        wanted, without = _wanted(rule, where)
        if kind in TEMPORAL:
            threshold = Threshold(comparison=Comparison.AT_LEAST, count=len(wanted))
        else:
            threshold = _threshold(condition, where)
        correlation = Correlation(
            id=where,
            about=_about(rule),
            kind=kind,
            rules=wanted,
            group_by=tuple(_group_field(name, rule.aliases) for name in rule.group_by or ()),
            timespan=rule.timespan.seconds,
            threshold=threshold,
            without=without,
            silent=id(rule) not in self._heard,
        )
        correlation.check()
        return correlation


def _about(rule: Anything) -> About:
    custom: Mapping[str, object] = rule.custom_attributes or {}
    try:
        return About(
            title=str(rule.title)[:256],
            severity=Severity(rule.level.name.lower()) if rule.level else Severity.MEDIUM,
            certainty=Certainty(str(custom.get("certainty", Certainty.HINT.value))),
            tags=tuple(f"{tag.namespace}.{tag.name}".lower() for tag in rule.tags),
            playbook=str(custom.get("playbook", "")),
        )
    except ValueError as error:
        raise SigmaRuleError(f"rule `{_id(rule)}`: {error}") from None


def _group_field(name: str, aliases: Anything) -> GroupField:
    alias = aliases.aliases.get(name)
    pairs = tuple((_id(reference.rule), field) for reference, field in alias.mapping.items()) if alias else ()
    return GroupField(name=name, other=pairs)


def _threshold(condition: Anything, where: str) -> Threshold:
    if not isinstance(condition.count, int) or condition.count < 0:
        raise SigmaRuleError(f"correlation `{where}`: the threshold must be a whole number")
    fields = condition.fieldref or ()
    return Threshold(
        comparison=Comparison(condition.op.name.lower()),
        count=condition.count,
        fields=(fields,) if isinstance(fields, str) else tuple(fields),
        percentile=50 if condition.percentile is None else condition.percentile,
    )


def _wanted(rule: Anything, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the rules that must match and those that mustn't, from a list or an extended condition."""
    parsed = getattr(rule.condition, "parsed", None)
    references = {reference.reference: _id(reference.rule) for reference in rule.rules or rule.referenced_rules}
    if parsed is None:
        return tuple(references[reference.reference] for reference in rule.rules), ()
    wanted, without = list[str](), list[str]()
    for part in parsed.args if type(parsed).__name__ == "CorrelationConditionAND" else (parsed,):
        negated = type(part).__name__ == "CorrelationConditionNOT"
        reference = part.args[0] if negated else part
        if type(reference).__name__ != "SigmaRuleReference":
            raise SigmaRuleError(
                f"correlation `{where}`: only rules and negated rules joined by `and` are taken",
                remedy="write the alternatives as correlations of their own",
            )
        (without if negated else wanted).append(references[reference.reference])
    return tuple(wanted), tuple(without)


def _expression(tree: Anything, where: str) -> Expression:
    name = type(tree).__name__
    if name in {"ConditionAND", "ConditionOR"}:
        parts = tuple(_expression(part, where) for part in tree.args)
        return All(parts) if name == "ConditionAND" else Any(parts)
    if name == "ConditionNOT":
        return Not(_expression(tree.args[0], where))
    if name == "ConditionFieldEqualsValueExpression":
        return _value(tree.field, tree.value, where)
    if name == "ConditionValueExpression":
        return _value("", tree.value, where)
    raise SigmaRuleError(f"rule `{where}` holds a `{name}`, which packs don't")


def _value(field: str, value: Anything, where: str) -> Expression:
    test = _test(field, value, where)
    for part in test.parts if isinstance(test, Any) else (test,):
        if isinstance(part, Test):
            check_test(part)
    return test


def _test(field: str, value: Anything, where: str) -> Expression:
    name = type(value).__name__
    if name == "SigmaExpansion":
        return Any(tuple(_value(field, each, where) for each in value.values))
    if name in {"SigmaString", "SigmaCasedString"}:
        return _text(field, value, where, cased=name == "SigmaCasedString")
    if name == "SigmaNumber" and not field:
        return Test("", Match.EQUALS, str(value.number))
    if name not in _PLAIN:
        raise SigmaRuleError(f"rule `{where}` holds a `{name}`, which packs don't")
    return Test(field, *_PLAIN[name](value))


def _regex(value: Anything) -> tuple[Match, str]:
    flags = "".join(sorted(value.sigma_to_re_flag[flag] for flag in value.flags))
    return Match.REGEX, (f"(?{flags})" if flags else "") + str(value.regexp)


def _reference(value: Anything) -> tuple[Match, str]:
    how = Match.SAME_START if value.starts_with else Match.SAME_END if value.ends_with else Match.SAME
    return how, value.field


_PLAIN: Final[Mapping[str, Callable[[Anything], tuple[Match, str]]]] = {
    "SigmaNumber": lambda value: (Match.NUMBER, str(value.number)),
    "SigmaBool": lambda value: (Match.TRUE if value.boolean else Match.FALSE, ""),
    "SigmaNull": lambda _value: (Match.NULL, ""),
    "SigmaExists": lambda value: (Match.PRESENT if value.exists else Match.ABSENT, ""),
    "SigmaRegularExpression": _regex,
    "SigmaCIDRExpression": lambda value: (Match.CIDR, str(value.network)),
    "SigmaCompareExpression": lambda value: (_COMPARE[value.op.name], str(value.number.number)),
    "SigmaFieldReference": _reference,
}


def _text(field: str, value: Anything, where: str, *, cased: bool) -> Test:
    parts = [part if isinstance(part, str) else part.name for part in value.s]
    special = [isinstance(part, str) for part in value.s]
    if any(
        name not in {"WILDCARD_MULTI", "WILDCARD_SINGLE"}
        for name, plain in zip(parts, special, strict=True)
        if not plain
    ):
        raise SigmaRuleError(f"rule `{where}` holds a placeholder: fill it in before the pack is built")
    shape = ["text" if plain else name for name, plain in zip(parts, special, strict=True)]
    # Sigma compares keywords with the whole message, of which each of our fields is a part.
    simple = {(): Match.EQUALS, ("text",): Match.EQUALS if field else Match.CONTAINS}
    simple |= {
        ("text", "WILDCARD_MULTI"): Match.STARTS,
        ("WILDCARD_MULTI", "text"): Match.ENDS,
        ("WILDCARD_MULTI", "text", "WILDCARD_MULTI"): Match.CONTAINS,
    }
    how = simple.get(tuple(shape))
    if how is not None:
        return Test(field, how, "".join(part for part, plain in zip(parts, special, strict=True) if plain), cased)
    return Test(field, Match.LIKE, "".join(map(_pattern, parts, special)), cased)


def _pattern(part: str, plain: bool) -> str:  # noqa: FBT001 - called by map
    if not plain:
        return "*" if part == "WILDCARD_MULTI" else "?"
    return part.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")
