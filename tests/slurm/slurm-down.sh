#!/usr/bin/env bash
# Ends the Slurm that slurm-up.sh started below the folder given, with its jobs.
set -uo pipefail
folder=$(cd "$1" && pwd)
export SLURM_CONF=$folder/slurm.conf
scancel --user="$(id -un)" 2>/dev/null
for pid in "$folder/slurmctld.pid" "$folder/slurmd.pid" "$folder/munge/pid"; do
    [ -f "$pid" ] && kill "$(cat "$pid")" 2>/dev/null
done
exit 0
