#!/usr/bin/env bash
# Starts a search in a run folder, or goes on with the one that is in it.
#   search_or_resume.sh /ABSOLUTE/RUN/FOLDER [options of nas search]
# The cluster is the one that RAY_ADDRESS names (Ray sets it in jobs): not an option, so that a run goes on on any cluster.
set -euo pipefail

folder=${1:?usage: search_or_resume.sh /ABSOLUTE/RUN/FOLDER [options of nas search]}
shift
if [[ -s $folder/ledger.jsonl ]]; then
    exec "${PYTHON:-python3}" -m nas resume "$folder"
fi
exec "${PYTHON:-python3}" -m nas search --run "$folder" "$@"
