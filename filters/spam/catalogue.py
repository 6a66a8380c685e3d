"""All built-in rules, ready to be asked."""

from functools import cache

from filters.spam import header_rules, link_rules, phrases, sender_rules, structure_rules
from filters.spam.rules import Pattern, Question, RuleBook

_MODULES = (header_rules, structure_rules, link_rules, phrases, sender_rules)


@cache
def rule_book() -> RuleBook:
    """The one rule book of this process. Its patterns take a moment to compile, the first time."""
    return RuleBook(rule for module in _MODULES for rule in module.RULES if isinstance(rule, Question | Pattern))
