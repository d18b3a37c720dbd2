#!/usr/bin/env bash
# Starts a Slurm of one node, this machine, below the folder given, beside any Slurm that is installed here; needs root and
# `apt-get install --no-install-recommends slurm-wlm munge`. Prints the path of its configuration: export it as SLURM_CONF.
# Lines after the folder are added to the configuration: slurm-up.sh FOLDER MaxArraySize=3
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
host=$(hostname -s)
cpus=$(nproc)
memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
export SLURM_CONF=$folder/slurm.conf

mkdir -p "$folder/state" "$folder/spool" "$folder/munge"
chmod 0755 "$folder" "$folder/munge"
dd if=/dev/urandom of="$folder/munge/key" bs=1024 count=1 status=none
chmod 0400 "$folder/munge/key"

# Ports that are free now, so that several can run at a time.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        if ! (: </dev/tcp/127.0.0.1/"$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

cat >"$SLURM_CONF" <<END
ClusterName=distill
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
# A requeued job waits until its credential has expired.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=30
MinJobAge=300
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
# It is for tests, which do not wait.
SchedulerParameters=sched_interval=1,batch_sched_delay=0
$(printf '%s\n' "${@:2}")
END

munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
    --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" >&2
slurmctld >&2
slurmd -N "$host" >&2

for ((i = 0; i < 100; i++)); do
    if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
        echo "$SLURM_CONF"
        exit 0
    fi
    sleep 0.1
done
echo "Slurm did not come up within 10 seconds; its logs are in $folder." >&2
exit 1
