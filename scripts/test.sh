#!/usr/bin/env bash
# Every check: style, types, the floor plan, the tests. Options go to pytest, as in `bash scripts/test.sh -k fit`.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install.sh dev
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
# A file's tests stay together: they share what is costly to set up, and some count what the others tried.
# Many wait for processes of their own: one worker more than there are cores keeps these busy.
workers="$(.venv/bin/python -c 'import os; print(1 + min(16, os.cpu_count() or 1))')"
exec .venv/bin/pytest -n "$workers" --dist loadfile --no-loadscope-reorder "$@"
