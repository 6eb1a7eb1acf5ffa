#!/bin/bash
# Several learners, each with a GPU (or a CPU) and environments of its own, that share their gradients.
#
#   deploy/torchrun.sh ppo_pong pong1 /shared/runs                       one machine, all of its GPUs
#   NODES=2 HEAD=node1 deploy/torchrun.sh ppo_pong pong1 /shared/runs    the same command on each of two machines
#
# CONFIG NAME ROOT, then settings. ROOT is a folder that every machine sees: the checkpoints lie in it.
set -euo pipefail
CONFIG=$1 NAME=$2 ROOT=$3
shift 3
# When it is to stop, torchrun kills after so many seconds what has not written its checkpoint; 30 if nothing is said.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}"
if [[ "${NODES:-1}" == 1 ]]; then
    meet=(--standalone)  # a port of its own: another job of the same machine keeps its own, too
else
    meet=(--rdzv-backend c10d --rdzv-endpoint "$HEAD:29500" --rdzv-id "$NAME")
fi
exec torchrun --nnodes "${NODES:-1}" --nproc-per-node "${PROCESSES:-gpu}" "${meet[@]}" \
    -m triathlon.scripts.main train "$CONFIG" --name "$NAME" --root "$ROOT" --resume auto "$@"
