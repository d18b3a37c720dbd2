#!/usr/bin/env bash
# Ends the Slurm that slurm-up.sh started below the folder given, with its jobs; its processes are gone when this returns, so
# that the folder can be deleted.
set -uo pipefail
folder=$(cd "$1" && pwd)
export SLURM_CONF=$folder/slurm.conf
scancel --user="$(id -un)" 2>/dev/null
for ((i = 0; i < 100; i++)); do
    [ -z "$(squeue --noheader 2>/dev/null)" ] && break
    sleep 0.1
done

# munged last: the other two answer nobody without it.
for pid in "$folder/slurmctld.pid" "$folder/slurmd.pid" "$folder/munge/pid"; do
    [ -f "$pid" ] || continue
    process=$(cat "$pid")
    kill "$process" 2>/dev/null
    for ((i = 0; i < 200; i++)); do
        kill -0 "$process" 2>/dev/null || continue 2
        sleep 0.1
    done
    kill -9 "$process" 2>/dev/null
done
exit 0
