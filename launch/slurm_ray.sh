#!/usr/bin/env bash
# Trains on the nodes that Slurm gives, as a Ray cluster of this job alone; docs/launching.md tells more.
#
#   sbatch --nodes=2 launch/slurm_ray.sh --pairs /shared/pairs/train --output /shared/runs/one --num-workers 2
#
# The options are those of `sharedlayers train`. Submit it in the repository's root, on a file system
# that all nodes share. Before the time limit, and when the job is cancelled with
# `scancel --batch --signal=TERM`, the run saves itself and ends with exit code 75: submit it again with
# --resume.
#SBATCH --job-name=sharedlayers
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --signal=B:TERM@300
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch, which this script is for}"
export PATH=$PWD/.venv/bin:$PATH
port=${RAY_PORT:-6379}
export RAY_health_check_failure_threshold=3 # A silent node counts as lost after 39 seconds, not 65.

# A token of this job's own. It is in no file, which a killed job would leave behind: srun hands the
# environment to the other nodes, where only this user and root can read it.
unset RAY_AUTH_TOKEN_PATH
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT

head=$(hostname)
address=$(python -c 'import socket, sys; print(socket.gethostbyname(sys.argv[1]))' "$head"):$port
start=(ray start --block "--num-cpus=${SLURM_CPUS_PER_TASK:-1}")
[ -z "${SLURM_GPUS_ON_NODE:-}" ] || start+=("--num-gpus=$SLURM_GPUS_ON_NODE")
srun --overlap --output=none --nodes=1 --ntasks=1 --nodelist="$head" \
  "${start[@]}" --head "--node-ip-address=${address%:*}" "--port=$port" --dashboard-host=127.0.0.1 &
until ray health-check --address "$address" 2>/dev/null; do
  kill -0 $! || exit 1
  sleep 1
done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  others=$((SLURM_JOB_NUM_NODES - 1))
  srun --overlap --output=none --nodes=$others --ntasks=$others --exclude="$head" \
    "${start[@]}" "--address=$address" &
fi

RAY_ADDRESS=$address python launch/ray_train.py "$@" &
driver=$!
trap 'kill -TERM $driver' TERM INT
code=0
while kill -0 $driver 2>/dev/null; do wait $driver && code=0 || code=$?; done
exit $code
