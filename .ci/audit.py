"""Looks up every version that is installed here among the published vulnerabilities (OSV). `just audit` runs it.

Exit codes: 0 none is known, 1 there are some, 3 nobody could be asked, which says nothing about the versions.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

NONE_KNOWN, SOME_KNOWN, NOT_KNOWN = 0, 1, 3
OSV_URL = "https://api.osv.dev/v1/query"
TIMEOUT_S = 15
ALL_TIMEOUT_S = 900
PROJECT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Audit the locked versions of every group and say what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--osv-url", default=OSV_URL, help="where to ask")
    parser.add_argument("--requirements", type=Path, help="audit these pinned versions instead of the locked ones")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        requirements = asked.requirements or exported(Path(folder) / "requirements.txt")
        found, complaint = audited(requirements, Path(folder) / "audit.json", asked.osv_url)
    if found is None:
        print(f"NOT AUDITED: {asked.osv_url} could not be asked ({complaint}).", file=sys.stderr)
        print(
            "Whether a dependency has a known vulnerability was not looked up; this is no clean result.",
            file=sys.stderr,
        )
        return NOT_KNOWN
    unknown = [each["name"] for each in found if "skip_reason" in each]
    for each in found:
        for hole in each.get("vulns", ()):
            mended = ", ".join(hole["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {hole['id']}, mended in {mended}")
    if any(each.get("vulns") for each in found):
        return SOME_KNOWN
    if unknown or not found:
        print(f"NOT AUDITED: {', '.join(unknown) or 'no version was given'}; this is no clean result.", file=sys.stderr)
        return NOT_KNOWN
    print(f"{len(found)} versions were looked up at {asked.osv_url}; no vulnerability of theirs is known")
    return NONE_KNOWN


def exported(target: Path) -> Path:
    """The locked versions of every group, the development tools among them."""
    command = ["uv", "export", "--quiet", "--all-groups", "--no-hashes", "--no-emit-project", "--no-annotate"]
    subprocess.run([*command, "--output-file", str(target)], cwd=PROJECT, stdout=subprocess.DEVNULL, check=True)
    return target


def audited(requirements: Path, report: Path, osv_url: str) -> tuple[list[dict[str, object]] | None, str]:
    """What pip-audit tells of each version; None, and why, when it could not ask."""
    options = ["--vulnerability-service", "osv", "--osv-url", osv_url, "--timeout", str(TIMEOUT_S)]
    options += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--output", str(report)]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {ALL_TIMEOUT_S} s"
    try:
        # A report is written only when every version could be looked up.
        return json.loads(report.read_text())["dependencies"], ""
    except (FileNotFoundError, ValueError):
        return None, (done.stderr.strip().splitlines() or ["without a word"])[-1][:300]


if __name__ == "__main__":
    sys.exit(main())
