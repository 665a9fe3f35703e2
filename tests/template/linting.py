"""cfn-lint inside this process, which reads its specification once for all files."""

from pathlib import Path

from cfnlint.api import lint_file


def cfn_lint(template: Path) -> list[str]:
    """What cfn-lint has to say, warnings too."""
    return [f"{match.filename}:{match.linenumber}: {match.rule.id} {match.message}" for match in lint_file(template)]
