#!/usr/bin/env bash
# Runs a search as a Ray job, or goes on with it: the same command after a stop, a kill or a crash.
#
#   examples/cluster/submit.sh FOLDER [options of nas search]
#   examples/cluster/submit.sh /shared/runs/first --preset gpu --budget 500 --data-dir /shared/data
#
# FOLDER must be an absolute path that the next job finds too: on a file system that all nodes share, or on the head's own disk (the
# driver of a job runs on the head). Not in the job's working directory, which Ray deletes with the job.
# Stop it with `ray job stop ID`: the search ends in order, and is killed after three seconds, which loses nothing either.
# The job server is found through RAY_API_SERVER_ADDRESS (http://localhost:8265 through an SSH tunnel); a cluster with a token needs
# RAY_AUTH_MODE=token and the token here. RAY and PYTHON name the programs, here and on the nodes.
set -euo pipefail

if [[ $# -lt 1 || ${1:0:1} != / ]]; then
    echo "usage: $0 /ABSOLUTE/RUN/FOLDER [options of nas search]" >&2
    exit 2
fi
folder=$1
shift
export RAY_API_SERVER_ADDRESS=${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Whether there is a run already can only be seen where the folder is: the small script travels with the job and looks there.
exec "${RAY:-ray}" job submit --working-dir "$here" -- env "PYTHON=${PYTHON:-python3}" bash search_or_resume.sh "$folder" "$@"
