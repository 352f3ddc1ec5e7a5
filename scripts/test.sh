#!/usr/bin/env bash
# Every check: style, types, the floor plan, the tests. Options go to pytest, as in `bash scripts/test.sh -k fit`.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/check.sh
exec .venv/bin/pytest -n auto --dist worksteal "$@"
