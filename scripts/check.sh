#!/usr/bin/env bash
# Style (ruff), types (mypy) and floors (import-linter); about a minute. `bash scripts/check.sh --fix` mends style first.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install.sh dev
if [[ "${1:-}" == --fix ]]; then
  .venv/bin/ruff check --fix .
  .venv/bin/ruff format .
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
