"""Look up every installed version among the published vulnerabilities (OSV). `just audit` runs it.

Exit codes: 0 no vulnerability is known, 1 at least one is known, 3 unknown: the advisories could not be reached.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

NONE_KNOWN, SOME_KNOWN, UNKNOWN = 0, 1, 3
OSV_URL = "https://api.osv.dev/v1/query"
TIMEOUT_S = 15
ALL_TIMEOUT_S = 900
PROJECT = Path(__file__).resolve().parents[1]


class NotAuditedError(Exception):
    """At least one version could not be looked up."""


@dataclass(frozen=True)
class Audit:
    """How many versions were looked up, and a line for each known vulnerability."""

    versions: int
    vulnerabilities: tuple[str, ...]


def main() -> int:
    """Audit the locked versions of every dependency group and print what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--osv-url", default=OSV_URL, help="address of the advisories")
    parser.add_argument("--requirements", type=Path, help="audit these pinned versions instead of the locked ones")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            requirements = options.requirements or export(Path(folder) / "requirements.txt")
            audit = look_up(requirements, Path(folder) / "audit.json", options.osv_url)
    except NotAuditedError as error:
        print(f"NOT AUDITED: {error} (advisories: {options.osv_url}).", file=sys.stderr)
        print("Whether a dependency has a known vulnerability is unknown; run `just audit` again.", file=sys.stderr)
        return UNKNOWN
    for line in audit.vulnerabilities:
        print(line)
    if audit.vulnerabilities:
        return SOME_KNOWN
    print(f"{audit.versions} versions looked up at {options.osv_url}: no known vulnerability")
    return NONE_KNOWN


def export(target: Path) -> Path:
    """Write the locked versions of every group, development tools included, to `target`."""
    command = ["uv", "export", "--quiet", "--all-groups", "--no-hashes", "--no-emit-project", "--no-annotate"]
    subprocess.run([*command, "--output-file", str(target)], cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    return target


def look_up(requirements: Path, report: Path, osv_url: str) -> Audit:
    """Have pip-audit look up each version. Raises NotAuditedError unless it looked up all of them."""
    options = ["--vulnerability-service", "osv", "--osv-url", osv_url, "--timeout", str(TIMEOUT_S)]
    options += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--output", str(report)]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ALL_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NotAuditedError(f"no answer within {ALL_TIMEOUT_S} s") from error
    try:
        # pip-audit writes a report only when it could look up every version.
        dependencies = json.loads(report.read_text())["dependencies"]
    except (FileNotFoundError, ValueError) as error:
        raise NotAuditedError((done.stderr.strip().splitlines() or ["pip-audit wrote no report"])[-1][:300]) from error
    vulnerabilities = tuple(
        f"{each['name']} {each['version']}: {known['id']}, "
        f"fixed in {', '.join(known['fix_versions']) or 'no version yet'}"
        for each in dependencies
        for known in each.get("vulns", ())
    )
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    if not vulnerabilities and (skipped or not dependencies):
        raise NotAuditedError(f"skipped: {', '.join(skipped)}" if skipped else "no version to look up")
    return Audit(len(dependencies), vulnerabilities)


if __name__ == "__main__":
    sys.exit(main())
