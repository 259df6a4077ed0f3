#!/usr/bin/env bash
# Runs a command in the GPU image, as you, in this repository:   ./docker_run.sh python train.py --help
# More options for docker, such as a folder of datasets:          DOCKER_ARGS="--volume /data:/data" ./docker_run.sh ...
# Downloads and compiled kernels are kept in MSCOND_CACHE (default: mscond in your cache folder).
set -euo pipefail
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${MSCOND_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mscond}"
read -ra options <<< "${DOCKER_ARGS:-}"
[[ -t 0 && -t 1 ]] && options+=(--interactive --tty)

mkdir -p "$cache"
docker build --tag mscond "$repository" >&2
exec docker run --rm --gpus all --ipc=host --user "$(id -u):$(id -g)" \
  --volume "$repository:/workspace" --volume "$cache:/cache" "${options[@]}" mscond "$@"
