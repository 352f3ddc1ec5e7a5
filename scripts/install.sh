#!/usr/bin/env bash
# Make .venv, or bring it up to date: bash scripts/install.sh [EXTRAS], such as "dev" or "text,slurm".
# Where pyproject.toml, constraints.txt and the extras are those of the last time, it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="${1:-}"

stamp=".venv/installed-${extras//,/-}"
wanted="$(cat pyproject.toml constraints.txt | cksum) $PWD"
if [[ -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
  exit 0
fi

suits() {
  command -v "$1" >/dev/null && "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
}
if [[ ! -x .venv/bin/python ]]; then
  found=""
  for python in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if suits "$python"; then found="$python"; break; fi
  done
  if [[ -z "$found" ]]; then
    echo "install: no Python 3.11, 3.12 or 3.13 with venv was found; install one, or name it: PYTHON=/path/to/python" >&2
    exit 2
  fi
  echo "making .venv with $("$found" --version)"
  "$found" -m venv .venv
fi
echo "installing the tested versions (constraints.txt); this is done once"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extras:+[$extras]}"
echo "$wanted" > "$stamp"
