#!/bin/bash
# A training as a job of a Ray cluster that runs already. Submitted again after it was stopped or killed, it goes on.
#
#   RAY_API_SERVER_ADDRESS=http://head:8265 deploy/ray_job.sh ppo_pong pong1 /shared/runs --workers.num 16
#
# CONFIG NAME ROOT, then settings. ROOT is a folder that every machine sees: the checkpoints lie in it.
set -euo pipefail
CONFIG=$1 NAME=$2 ROOT=$3
shift 3
# --submission-id is left out: a cluster takes each id once, and the same name may have to be submitted again.
exec ray job submit --no-wait -- \
    triathlon train "$CONFIG" --name "$NAME" --root "$ROOT" --resume auto \
    --workers.kind ray --workers.num 2 --workers.envs-per-worker 8 "$@"
