# Sourced by the other scripts, from the repository's root, with the word quickstart, recipe or test; bash scripts/setup.sh is
# for all. Makes and reuses .venv, or takes the active virtual environment, and installs the package there, with what the word
# needs. Does nothing when that was done before and nothing has changed.
#
#   PYTHON=python3.12   the interpreter to make .venv with (default: one of 3.10 to 3.13, of the system, uv or pyenv)
#   TORCH_INDEX=URL     where else to look for PyTorch, as for its builds for CPUs. An installed PyTorch stays as it is.
#   NUMPY=2.4.6         another NumPy than that of constraints.txt
#   SETUP=skip          take the active environment as it is
[ "${BASH_SOURCE[0]}" != "$0" ] || set -euo pipefail
source scripts/setup_steps.sh
set_up "${1:-test}"
