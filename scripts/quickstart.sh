#!/usr/bin/env bash
# A whole scaling study on this machine, about four minutes on two free cores: plan, train, fit, seal, train the
# target, judge, report. Stopped and started again, it goes on. Options go to `testbed run`.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/install.sh
exec .venv/bin/testbed run configs/quick.toml "$@"
