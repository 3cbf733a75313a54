#!/usr/bin/env bash
#SBATCH --job-name=nas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#
# A Ray cluster inside one Slurm allocation, and a search on it. Submit the same command again (from the repository) to go on with it:
#   sbatch examples/cluster/slurm.sh /shared/runs/first --preset gpu --budget 500 --data-dir /shared/data
# The run folder must be on a file system that outlives the job. VENV (default ~/venv) has the package on every node.
set -euo pipefail

folder=${1:?usage: sbatch slurm.sh /ABSOLUTE/RUN/FOLDER [options of nas search]}
shift
# shellcheck source=/dev/null
source "${VENV:-$HOME/venv}/bin/activate"

# One token for this allocation, readable by its owner alone; without it anybody on the network could run code on the nodes.
umask 077
RAY_AUTH_TOKEN_PATH=$(mktemp "${SLURM_SUBMIT_DIR:-$PWD}/.ray-token.XXXXXX")
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"
export RAY_AUTH_TOKEN_PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))  # jobs that share a node must not share a port
resources=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_PER_TASK:-0}")

srun --nodes=1 --ntasks=1 --nodelist="$head_node" --overlap \
    ray start --head --block --node-ip-address="$head_ip" --port="$port" --include-dashboard=false "${resources[@]}" &
if [[ ${SLURM_JOB_NUM_NODES:-1} -gt 1 ]]; then
    sleep 15
    srun --nodes="$((SLURM_JOB_NUM_NODES - 1))" --ntasks="$((SLURM_JOB_NUM_NODES - 1))" --exclude="$head_node" --overlap \
        ray start --block --address="$head_ip:$port" "${resources[@]}" &
fi

for _ in $(seq 60); do
    if timeout 5 bash -c "exec 3<>/dev/tcp/$head_ip/$port" 2> /dev/null; then break; fi
    sleep 2
done

here=${SLURM_SUBMIT_DIR:-$PWD}/examples/cluster  # sbatch runs a copy of this file from elsewhere
RAY_ADDRESS="$head_ip:$port" PYTHON=python bash "$here/search_or_resume.sh" "$folder" "$@" &
search=$!
# Slurm's warning before the time limit ends the search in order; what is in training starts again with the next job.
trap 'kill -TERM "$search"' TERM
status=0
wait "$search" || status=$?
rm -f "$RAY_AUTH_TOKEN_PATH"
exit "$status"
