#!/usr/bin/env bash
# Every check: style, types, the floor plan, the tests. Options go to pytest, as in `bash scripts/test.sh -k fit`.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/check.sh
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
# A file's tests stay together: they share what is costly to set up, and some count what the others tried.
exec .venv/bin/pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
