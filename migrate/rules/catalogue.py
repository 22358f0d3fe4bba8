"""All rules of assessment. docs/rules.md is generated from here."""

from core.rules import Rule
from migrate.rules import hardware, network, software, storage, system
from migrate.rules.subject import Subject

RULES: tuple[Rule[Subject], ...] = (
    *hardware.RULES,
    *system.RULES,
    *storage.RULES,
    *network.RULES,
    *software.RULES,
)


def page() -> str:
    """docs/rules.md."""
    lines = [
        "# The rules of assessment",
        "",
        "Generated from migrate/rules/ by `python -m migrate.rules.catalogue`; do not edit.",
        "",
        "A rule answers pass, fail, unknown (a fact it needs is missing) or error. The last two "
        "never pass: a blocker that could not be judged blocks. A waiver accepts one rule of one "
        "server by name and reason.",
        "",
        "| rule | severity | what it finds | what to do |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {rule.id} | {rule.severity.value} | {rule.title} | {rule.remediation} |"
        for rule in RULES
    ]
    return "\n".join(lines) + "\n"
