#!/usr/bin/env bash
# A real Slurm of one node, for as long as this script runs: submits an evaluation as an array job, requeues one task and cancels another half-way, submits the
# cancelled one again, merges, and compares records and table with those of a single process.
#
# Needs root and Debian or Ubuntu: the packages slurmctld, slurmd, slurm-client and munge are installed if they are missing. Configuration, state
# and logs are kept in a folder of its own; no service is enabled and no file of the system's Slurm is touched.
#
#   deploy/slurm-test.sh [FOLDER]      default: build/slurm
#   SLURM_TEST_EVAL                    flags of carso eval
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
dir=${1:-build/slurm}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
show=${dir#"$PWD"/} # as it is printed
read -ra what <<<"${SLURM_TEST_EVAL:--row carso-paper -column rand -scale tiny}"
scale=$(sed -n 's/.*-scale \([a-z-]*\).*/\1/p' <<<" ${what[*]}")
images=64 chunk=2 tasks=4
what+=(-images "$images" -chunk "$chunk" -workers 1)

say() { printf '%s  %s\n' "$(date -u +%T)" "$*"; }
fail() { say "FAILED: $*"; tail -n 20 "$dir"/log/*.log >&2 || true; exit 1; }

[ "$(id -u)" = 0 ] || { echo "make slurm needs root: it installs packages and starts Slurm's daemons" >&2; exit 1; }
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v sbatch >/dev/null || ! command -v munged >/dev/null; then
	say "installing Slurm"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
fi

go build -o "$dir/carso" ./cmd/carso
rm -rf "$dir"/{state,spool,log,records,jobs}
mkdir -p "$dir"/{state,spool,log,records,jobs}
host=$(hostname -s)
port=${SLURM_TEST_PORT:-16817}
run=$(mktemp -d /tmp/carso-slurm.XXXXXX) # munge insists on folders that only root may write, all the way up
chmod 755 "$run"
head -c 1024 /dev/urandom >"$run/munge.key"
chmod 400 "$run/munge.key"
cat >"$dir/slurm.conf" <<CONF
ClusterName=carso
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its old credential has expired.
AuthInfo=socket=$run/munge.socket,cred_expire=2
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
# What works inside a container without cgroups.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=5
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=512 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$dir/slurm.conf

# Daemons stay in the foreground, so that their process numbers are ours to end.
pids=()
stop() {
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do kill "${pids[i]}" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$run"
}
trap stop EXIT
munged --foreground --force --socket="$run/munge.socket" --key-file="$run/munge.key" --pid-file="$run/munged.pid" --log-file="$run/munged.log" --seed-file="$run/munge.seed" >"$dir/log/munged.log" 2>&1 &
pids+=($!)
for _ in $(seq 50); do [ -S "$run/munge.socket" ] && break; sleep 0.2; done
[ -S "$run/munge.socket" ] || fail "munged did not start"
slurmctld -D -i >"$dir/log/slurmctld.out" 2>&1 &
pids+=($!)
slurmd -D >"$dir/log/slurmd.out" 2>&1 &
pids+=($!)
for _ in $(seq 100); do sinfo -h -o %t 2>/dev/null | grep -qx idle && break; sleep 0.3; done
sinfo -h -o %t 2>/dev/null | grep -qx idle || fail "the node did not become idle"
say "$(slurmctld -V): node $host is idle"

# recorded counts the images that the parts hold so far.
recorded() { { grep -oh '"index":' "$dir"/records/shards/*"$1"*.jsonl 2>/dev/null || true; } | wc -l; }
state() { squeue -h -r -j "$1" -o '%i %T' 2>/dev/null || true; }
running() { state "$job" | grep -q "^${job}_$1 RUNNING$"; }
# half waits until a task has recorded something; it must still run then.
half() {
	for _ in $(seq 600); do
		[ "$(recorded ".shard-$1-of-$tasks")" -gt 0 ] && break
		sleep 0.1
	done
	running "$1" || fail "task $1 was over before it could be interrupted: ask for a slower evaluation in SLURM_TEST_EVAL"
}
submit() {
	CARSO=$dir/carso CARSO_RECORDS=$dir/records/shards sbatch --parsable --chdir="$PWD" --output="$dir/jobs/%A_%a.log" --cpus-per-task=1 "$@" "${what[@]}" -again
}
drained() {
	for _ in $(seq 3000); do
		[ -z "$(state "$1")" ] && return
		sleep 0.2
	done
	fail "job $1 does not end"
}

job=$(submit --array=0-$((tasks - 1)) deploy/eval.sbatch)
say "submitted array job $job of $tasks tasks: carso eval ${what[*]}"
half 0
say "task 0 has recorded $(recorded ".shard-0-of-$tasks") images: requeue it"
scontrol requeue "${job}_0"
half 1
say "task 1 has recorded $(recorded ".shard-1-of-$tasks") images: cancel it"
scancel "${job}_1"
drained "$job"
say "array job $job has ended: $(recorded "") images recorded; task 0 was started $(grep -c '^20.* start ' "$dir/jobs/${job}_0.log") times"
[ "$(grep -c '^20.* start ' "$dir/jobs/${job}_0.log")" = 2 ] || fail "task 0 was not requeued"

say "merging what is there:"
"$dir/carso" merge -chunk "$chunk" -images "$images" -out "$show/records/incomplete" "$show/records/shards"
if "$dir/carso" merge -chunk "$chunk" -images "$images" -require-all -out "$show/records/incomplete" "$show/records/shards" >/dev/null 2>&1; then fail "nothing was lost with the cancelled task"; fi

again=$(CARSO_SHARD=auto/$tasks submit --array=1 deploy/eval.sbatch)
say "submitted the cancelled task again: job $again"
drained "$again"
say "merging:"
"$dir/carso" merge -chunk "$chunk" -images "$images" -require-all -out "$show/records/merged" "$show/records/shards"

say "the same evaluation in a single process:"
"$dir/carso" eval -again -records "$dir/records/single" "${what[@]}" 2>/dev/null || fail "the single process failed"
cmp "$dir"/records/single/*.jsonl "$dir"/records/merged/*.jsonl || fail "the merged records are not those of a single process"
say "records: byte-identical ($(cat "$dir"/records/merged/*.jsonl | wc -c) bytes)"
for r in single merged; do "$dir/carso" table main -no-run -scale "$scale" -format json -records "$dir/records/$r" >"$dir/$r.json"; done
cmp "$dir/single.json" "$dir/merged.json" || fail "the tables differ"
say "tables: byte-identical"
say "PASSED"
